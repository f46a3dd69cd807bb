#!/usr/bin/env bash
# Scores a folder in parts, a job of the array each, and merges them in a job that follows if all went well:
#   id=$(sbatch --parsable --array=0-15 deploy/score-slurm.sh parts.safetensors /data/new scores)
#   sbatch --dependency=afterok:$id --wrap='ganomede merge scores/*.jsonl --out scores.json'
# A part that failed is scored again by its number alone, of as many parts as before:
#   PARTS=16 sbatch --array=7 deploy/score-slurm.sh parts.safetensors /data/new scores
#SBATCH --job-name=ganomede-score
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=01:00:00
set -euo pipefail
model=$1 data=$2 folder=$3
count=${PARTS:-$SLURM_ARRAY_TASK_COUNT}
mkdir -p "$folder"
export RAYON_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
"${GANOMEDE:-ganomede}" score "$model" "$data" --shard "$SLURM_ARRAY_TASK_ID/$count" \
    --out "$folder/$SLURM_ARRAY_TASK_ID.jsonl"
