"""The choices of every axis, read from the source and true to the functions themselves."""

import inspect
from pathlib import Path

import pytest

from pruning import catalogue
from pruning.errors import PruningError
from pruning.traits import traits

ALL = [(axis, name) for axis in catalogue.AXES for name in catalogue.entries(axis)]


@pytest.mark.parametrize(
    ("axis", "names"),
    [
        ("criterion", {"magnitude", "lp_norm", "random"}),
        ("allocation", {"global", "layerwise"}),
        ("schedule", {"one_shot", "linear", "polynomial", "geometric"}),
        ("initialization", {"own", "kaiming", "variance_scaling", "orthogonal"}),
        ("learning rate", {"constant", "multistep", "cosine", "linear"}),
    ],
)
def test_the_first_choices_are_there(axis, names):
    assert names <= catalogue.entries(axis).keys()
    assert [*catalogue.entries(axis)] == sorted(catalogue.entries(axis))


@pytest.mark.parametrize(("axis", "name"), ALL)
def test_what_is_read_is_true_of_the_function(axis, name):
    entry = catalogue.entries(axis)[name]
    function = entry.load()
    own = {
        p.name: ... if p.default is p.empty else p.default
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    as_text = {k: v for k, v in entry.settings.items() if isinstance(v, str) and own[k] != v}
    assert not any(isinstance(own[key], str) for key in as_text)
    assert dict(entry.settings) == own | as_text
    assert inspect.getdoc(function).startswith(entry.meaning)
    assert entry.meaning.endswith((".", ":"))
    assert catalogue.find(axis, name) is function


@pytest.mark.parametrize(("axis", "name"), [row for row in ALL if row[0] != "model"])
def test_every_method_names_its_source(axis, name):
    assert len(catalogue.entries(axis)[name].source) > 5


def test_a_source_of_several_lines_is_read_whole():
    source = catalogue.entries("criterion")["magnitude"].source
    assert source.startswith("Han et al. 2015")
    assert source.endswith("Li et al. 2017, section 3.1.")


def test_a_function_that_is_written_is_there(tmp_path: Path):
    module = tmp_path / "pruning" / "criteria" / "mine.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "from math import inf\n_LOW = 0.9\n"
        "def oldest(model, params, evidence, *, p=-1.5, axes=(0, 1), how, low=_LOW, most=inf):\n"
        '    """Meaning.\n\n'
        '    Source: one\n    and two.\n\n    More.\n    """\n'
        "def bare(model, params, evidence): pass\ndef _helper(): pass\nclass Not: pass\n"
    )
    oldest, bare = catalogue._entries_of(module, tmp_path / "pruning")
    assert (oldest.name, oldest.module) == ("oldest", "pruning.criteria.mine")
    assert (oldest.meaning, oldest.source) == ("Meaning.", "one and two.")
    assert oldest.settings == {
        **{"p": -1.5, "axes": (0, 1), "how": ..., "low": 0.9},
        "most": "inf",
    }
    assert (bare.name, bare.meaning, bare.source, bare.settings) == ("bare", "", "", {})


def test_unknown_names_tell_where_and_the_choices():
    told = r"params\.yaml: unknown criterion 'l1'; choose from .*magnitude.*, package\.module:funct"
    with pytest.raises(PruningError, match=told):
        catalogue.find("criterion", "l1", where="params.yaml")
    with pytest.raises(PruningError, match=told):
        catalogue.check("criterion", "l1", {}, where="params.yaml")
    with pytest.raises(PruningError, match="unknown axis 'criteria'; choose from criterion"):
        catalogue.entries("criteria")


def test_helpers_and_imported_names_are_no_choices():
    for name in ("_fans", "sqrt", "unknown"):
        with pytest.raises(PruningError, match="unknown initialization"):
            catalogue.find("initialization", name)


def test_settings_are_checked_by_name():
    catalogue.check("criterion", "lp_norm", {"p": 1})
    catalogue.check("criterion", "somewhere.else:function", {"anything": 1})
    with pytest.raises(PruningError, match=r"unknown setting of criterion .lp_norm. .q.; .* p"):
        catalogue.check("criterion", "lp_norm", {"q": 1})
    with pytest.raises(PruningError, match="'magnitude' 'q'; choose from none: it has no settings"):
        catalogue.check("criterion", "magnitude", {"q": 1})


def test_a_function_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "their_methods.py").write_text("def best(m, p, e): return {}\nvalue = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert catalogue.find("criterion", "their_methods:best")(None, {}, None) == {}
    with pytest.raises(PruningError, match="p: criterion 'their_methods:worst' cannot be imported"):
        catalogue.find("criterion", "their_methods:worst", where="p")
    with pytest.raises(PruningError, match="p: criterion 'their_methods:value' is a int, not a fu"):
        catalogue.find("criterion", "their_methods:value", where="p")


def test_what_a_choice_says_of_itself_is_read_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert catalogue.traits_of("during", "rigl") == {"given", "exact"}
    assert catalogue.traits_of("during", "soft") == frozenset()
    (tmp_path / "their_during.py").write_text(
        "from pruning.traits import traits\nraise ImportError\n"
        "@traits('given', 'fixed')\n@contextmanager\ndef pinned(training): yield\n"
        "@other('given')\ndef plain(training): yield\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert catalogue.traits_of("during", "their_during:pinned") == {"given", "fixed"}
    for name in ("their_during:plain", "their_during:missing", "no_such_module:f", ".x:f", "sys:f"):
        assert catalogue.traits_of("during", name) == frozenset()
    with pytest.raises(PruningError, match="unknown during 'hope'"):
        catalogue.traits_of("during", "hope")


def test_a_trait_that_there_is_not_is_refused():
    traits("given", "exact")
    with pytest.raises(PruningError, match="unknown trait 'holding'; choose from given, fixed, ex"):
        traits("holding")


@pytest.mark.parametrize("name", ["no_such_module:f", ":f", "os:", ".relative:f", "os.path.x:f"])
def test_names_that_cannot_be_imported_are_told(name):
    with pytest.raises(PruningError, match=rf"criterion '{name}' cannot be imported"):
        catalogue.find("criterion", name)
