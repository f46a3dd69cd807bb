"""Prints what tests/signals.rs and tests/tables.rs expect of standardisation and min-max scaling, by
NumPy."""

import numpy as np

rows = np.array([[1.0, 10.0], [2.0, 10.0], [4.0, 10.0], [9.0, 10.0], [100.0, -3.0], [-50.0, 11.0]])
train = rows[:4]
mean, sd = train.mean(0), train.std(0)
sd[sd == 0] = 1
print("mean", mean, "sd", sd)
print("standardised", (np.clip((rows - mean) / sd, -5, 5) / 5).astype(np.float32).tolist())
span = np.ptp(train, 0)
span[span == 0] = 1
print("min-max", ((rows - train.min(0)) / span).astype(np.float32).tolist())
