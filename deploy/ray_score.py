"""Scores a folder of images on a Ray cluster: each worker keeps the model, tasks are slices of the sorted
list.

    pip install ray ./python
    python deploy/ray_score.py parts.safetensors new/ scores.json

Every machine must see the model and the images under the same names (a shared file system), or give Ray a
`working_dir` with them. The answers have the bits of `ganomede score --json`, in the order of the names.
"""

import argparse
import json
import pathlib

import ray

IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


@ray.remote
class Scorer:
    """A model on a machine."""

    def __init__(self, model: str, device: str) -> None:
        import ganomede

        self.detector = ganomede.load(model, device=device)

    def answers(self, paths: list[str]) -> list[dict]:
        """What `ganomede score` says of each; files that cannot be used are left out."""
        return self.detector.answers(paths)["images"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("model", type=pathlib.Path)
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("out", type=pathlib.Path)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--cpus", type=float, default=1, help="of a worker")
    arguments.add_argument("--gpus", type=float, default=0, help="of a worker")
    arguments.add_argument("--slice", type=int, default=64, help="images of a task")
    given = arguments.parse_args()
    images = sorted(str(path.resolve()) for path in given.folder.rglob("*") if path.suffix.lower() in IMAGES)
    if not images:
        raise SystemExit(f"no images in '{given.folder}'")

    ray.init(ignore_reinit_error=True)
    model, device = str(given.model.resolve()), "gpu" if given.gpus else "cpu"
    options = {"num_cpus": given.cpus, "num_gpus": given.gpus, "max_restarts": 3, "max_task_retries": 3}
    workers = [Scorer.options(**options).remote(model, device) for _ in range(given.workers)]
    slices = [images[at : at + given.slice] for at in range(0, len(images), given.slice)]
    pool = ray.util.ActorPool(workers)
    answers = [answer for part in pool.map(lambda worker, part: worker.answers.remote(part), slices) for answer in part]
    given.out.write_text(json.dumps({"model": str(given.model), "images": answers}, indent=2) + "\n")
    flagged = sum(answer["anomalous"] is True for answer in answers)
    print(f"{len(answers)} images, {flagged} anomalous: {given.out}")


if __name__ == "__main__":
    main()
