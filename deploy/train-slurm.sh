#!/usr/bin/env bash
# Trains on several machines, a rank for each GPU: sbatch deploy/train-slurm.sh anogan --data /data/parts …
# --out parts.safetensors. Needs a ganomede that was built with `--features mpi` against the cluster's MPI,
# and an output that every machine sees. Submitted again after its time is over, it goes on where it stopped.
#SBATCH --job-name=ganomede-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
# Two minutes before the end the ranks are told to stop, and write a checkpoint.
#SBATCH --signal=TERM@120
set -euo pipefail
export RAYON_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
exec srun --mpi=pmix "${GANOMEDE:-ganomede}" train "$@" --device gpu --resume
