def prepare(windows):
    """Windows [n, channels, time] in units of their own as the networks see them."""
    windows = torch.as_tensor(windows, dtype=torch.float64)
    by = [torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1) for values in (FROM, BY)]
    return ((windows - by[0]) / by[1]).clamp(-1, 1).to(torch.float32).unsqueeze(2)


def judge(model, windows):
    """Scores of windows; `points` [n, time] are those of their points: squared residuals, mean over channels."""
    x = prepare(windows).to(device_of(model))
    with torch.no_grad():
        found = model(x)
    if "reconstruction" in found:
        found["points"] = (x - found["reconstruction"]).square().mean((1, 2))
    else:
        found["points"] = found["score"][:, None].expand(-1, SHAPE[2])
    return found


def read(path):
    """An array of windows."""
    import numpy

    return numpy.load(path)
