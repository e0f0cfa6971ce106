"""Bring the data into one file, with the folds and the held-out test set fixed from one seed."""

from stages.command import PARAMS, ParamsFile, application, torch_stage


def prepare(params: ParamsFile = PARAMS) -> None:
    """Read the dataset, hold out its test set, deal out the folds."""
    with torch_stage():
        from pruning import datasets, folds
        from stages.files import PREPARED, Manifest, output
        from stages.params import read

        study = read(params)
        split = study.cross_validation
        dataset = datasets.load(**study.data.model_dump(), seed=split.seed)
        parts = folds.folds(dataset.labels, **split.model_dump())
        settings = {"data": study.data.model_dump(), "cross_validation": split.model_dump()}
        manifest = Manifest(study.study, "prepare", None, 0, (), settings, settings)
        with output(PREPARED, manifest) as folder:
            datasets.save(dataset, folder)
            folds.save(parts, folder / "folds.json")
        print(
            f"{dataset.name}: {len(dataset.labels)} images in {len(parts)} folds, "
            f"{len(dataset.test_labels)} held out for the test, {len(dataset.classes)} classes"
        )


app = application(prepare)

if __name__ == "__main__":
    app()
