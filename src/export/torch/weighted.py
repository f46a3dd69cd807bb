def weighted(x, axis, places, weights):
    """Along an axis sums of the elements at these places, [to, terms], with these weights."""
    parts = x.index_select(axis, places.flatten()).unflatten(axis, places.shape)
    shape = [1] * parts.dim()
    shape[axis : axis + 2] = weights.shape
    return (parts * weights.reshape(shape)).sum(axis + 1)
