def along(x, axis, matrix):
    """A matrix times a tensor, along an axis."""
    return torch.movedim(torch.tensordot(matrix, x, ([1], [axis])), 0, axis)
