def load(weights=HERE / "model.safetensors"):
    """The module with its weights."""
    model = Network()
    model.load_state_dict(load_file(weights))
    return model.eval()


if __name__ == "__main__":
    model = load()
    for path in sys.argv[1:]:
        for score in judge(model, read(path))["score"].tolist():
            verdict = "" if THRESHOLD is None else ["normal", "anomalous"][score >= THRESHOLD]
            print(path, f"{score:.6g}", verdict)
