def frame(height, width):
    """What is seen of an image, rows and columns, and what that fills of the networks' input."""
    size, to = (height, width), SHAPE[1:]
    seen, filled = [(0, height), (0, width)], [(0, to[0]), (0, to[1])]
    for d in (0, 1):
        if FIT == "crop":
            length = min(size[d], max(1, size[1 - d] * to[d] // to[1 - d]))
            start = (size[d] - length) // 2
            seen[d] = (start, start + length)
        if FIT == "pad":
            side = min(to[d], max(1, (2 * size[d] * to[1 - d] + size[1 - d]) // (2 * size[1 - d])))
            start = (to[d] - side) // 2
            filled[d] = (start, start + side)
    return seen, filled


def prepare(images):
    """Decoded pixels as the networks see them: uint8, or parts of the highest value, [n, h, w] or [n, h, w, c]."""
    images = torch.as_tensor(images)
    most = 255.0 if images.dtype == torch.uint8 else 1.0
    x = images.to(torch.float32) / most
    x = x.unsqueeze(1) if x.dim() == 3 else x.permute(0, 3, 1, 2)
    if x.shape[1] < 3:
        x = x[:, :1].expand(-1, SHAPE[0], -1, -1)
    elif SHAPE[0] == 1:
        x = (x[:, :3] * x.new_tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    else:
        x = x[:, :3]
    seen, filled = frame(*x.shape[2:])
    x = x[:, :, slice(*seen[0]), slice(*seen[1])]
    size = [end - start for start, end in filled]
    if list(x.shape[2:]) != size:
        x = F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
    after = [side - end for side, (_, end) in zip(SHAPE[1:], filled)]
    x = F.pad(x, (filled[1][0], after[1], filled[0][0], after[0]), value=0.5)
    x = (2 * x - 1).clamp(-1, 1)
    if STANDARDISE:
        deviation = x.var((1, 2, 3), unbiased=False, keepdim=True).sqrt().clamp(min=1 / 255)
        x = ((x - x.mean((1, 2, 3), keepdim=True)) / (3 * deviation)).clamp(-1, 1)
    return x


def smoothed(maps):
    """Maps [n, h, w] under a Gaussian, mirrored beyond their borders."""
    radius = int(4 * SIGMA + 0.5)
    if radius == 0:
        return maps
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / SIGMA) ** 2)
    weights = (weights / weights.sum()).to(maps)
    for axis in (2, 1):
        side = maps.shape[axis]
        at = torch.arange(-radius, side + radius, device=maps.device) % (2 * side)
        at = torch.minimum(at, 2 * side - 1 - at)
        maps = maps.index_select(axis, at).unfold(axis, 2 * radius + 1, 1) @ weights
    return maps


def drawn(model, maps, height, width):
    """Maps of the networks' input, smoothed, at the size of the images; NaN where these were not seen."""
    maps = smoothed(maps)
    if hasattr(model, "constant_map_mean"):
        maps = (maps - model.constant_map_mean) / model.constant_map_scale
    seen, filled = frame(height, width)
    size = [end - start for start, end in seen]
    rows, columns = (places(s, f, side) for s, f, side in zip(size, filled, SHAPE[1:]))
    (r0, r1, rw), (c0, c1, cw) = (tuple(v.to(maps.device) for v in axis) for axis in (rows, columns))
    rw, cw = rw.to(maps), cw.to(maps)
    maps = maps[:, r0] * (1 - rw)[:, None] + maps[:, r1] * rw[:, None]
    maps = maps[:, :, c0] * (1 - cw) + maps[:, :, c1] * cw
    whole = maps.new_full((maps.shape[0], height, width), float("nan"))
    whole[:, slice(*seen[0]), slice(*seen[1])] = maps
    return whole


def places(length, filled, side):
    """Between which two places of a map the pixels of an axis lie, and how far on the way."""
    start, end = filled
    at = (torch.arange(length, dtype=torch.float64) + 0.5) * (end - start) / length + start - 0.5
    at = at.clamp(0, side - 1)
    first = at.floor().long()
    return first, (first + 1).clamp(max=side - 1), at - first


def judge(model, images):
    """Scores of decoded images of one size, with maps at that size where the score has some."""
    with torch.no_grad():
        found = model(prepare(images).to(device_of(model)))
    if "map" in found:
        found["map"] = drawn(model, found["map"], *torch.as_tensor(images).shape[1:3])
    return found


def read(path):
    """An image, or an array of images."""
    if path.endswith(".npy"):
        import numpy

        return numpy.load(path)
    import numpy
    from PIL import Image

    image = Image.open(path)
    return numpy.asarray(image if image.mode in ("L", "RGB", "RGBA") else image.convert("RGB"))[None]
