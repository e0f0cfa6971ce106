"""Check params.yaml before DVC puts any of it into a command or a path."""

from pathlib import Path

from stages.command import PARAMS, ParamsFile, application, one_line_errors


def check(params: ParamsFile = PARAMS) -> None:
    """Check params.yaml and leave a file that every other stage depends on.

    Two more list the checkpoints to start from and the code of one's own, so that their folders are
    there without any.
    """
    with one_line_errors():
        from pruning.errors import PruningError
        from pruning.facts import write_json
        from stages.files import CHECKED, GIVEN, OWN_CODE
        from stages.params import read

        study = read(params)
        for file in study.own_code:
            if not Path(file).is_file():
                raise PruningError(f"{params}: own_code: there is no file {file!r} here")
        for folder in (GIVEN, OWN_CODE):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(CHECKED, {"checked": params.name})
        write_json(GIVEN / "list.json", [each.model_dump() for each in study.checkpoints])
        write_json(OWN_CODE / "list.json", study.own_code)


app = application(check)

if __name__ == "__main__":
    app()
