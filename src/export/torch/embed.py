def embed(x, sizes, start, step):
    """Zeros of these sizes with x from these places on, at every so many."""
    whole = x.new_zeros(sizes)
    places = [slice(b, b + (length - 1) * s + 1, s) for b, s, length in zip(start, step, x.shape)]
    whole[tuple(places)] = x
    return whole
