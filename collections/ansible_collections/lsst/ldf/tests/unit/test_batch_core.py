"""The private parts of ansible-core that a batch leans on are there, on every version that the project installs."""

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader, test_loader
from ansible.template import Templar, trust_as_template
from ansible_collections.lsst.ldf.plugins.plugin_utils import batch_core

get = type(filter_loader).get


@pytest.mark.parametrize(("place", "name"), batch_core.PRIVATE, ids=lambda value: getattr(value, "__name__", value))
def test_name_is_there(place, name):
    assert callable(getattr(place, name)) or hasattr(getattr(place, name), "search")


def test_the_installed_version_is_covered():
    assert batch_core.supported()


def test_another_version_is_not(monkeypatch):
    monkeypatch.setattr(batch_core, "CORE", "2.99.1")
    assert not batch_core.supported()


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("ansible.builtin.copy", "copy"),
        ("ansible.legacy.command", "command"),
        ("ansible.builtin.apt", "normal"),
        ("ansible.builtin.fetch", "fetch"),
        ("lsst.ldf.commit_confirm", None),
    ],
)
def test_whose_action_it_is(action, name):
    assert batch_core.core_name(batch_core.action_class(action, [])) == name


def test_collect_has_a_module_and_what_it_imports():
    names, files, origins = batch_core.collect(["ansible.builtin.apt", "lsst.ldf.unit"], [])
    assert names == {"ansible.builtin.apt": "ansible.modules.apt", "lsst.ldf.unit": "ansible_collections.lsst.ldf.plugins.modules.unit"}
    assert {"ansible/modules/apt.py", "ansible/module_utils/basic.py", "ansible/module_utils/_internal/_ansiballz/_loader.py"} <= set(files)
    assert "ansible_collections/lsst/ldf/plugins/module_utils/systemd.py" in files
    assert any(path.endswith("modules/apt.py") for path in origins)


@pytest.mark.parametrize("module", ["lsst.ldf.nothing", "ansible.builtin.nothing"])
def test_collect_refuses_what_is_no_module(module):
    with pytest.raises(LookupError, match=f"there is no module {module}"):
        batch_core.collect([module], [])


@pytest.mark.parametrize(
    ("template", "value"),
    [("{{ 'a' | upper }}", "A"), ("{{ 'a' | b64encode }}", "YQ=="), ("{{ 1 is odd }}", True), ("{{ [2, 1] | ansible.builtin.min }}", 1)],
)
def test_names_of_filters_and_tests(monkeypatch, template, value):
    """Jinja's own without a search, ansible-core's by it as ever."""
    monkeypatch.setattr(batch_core.JinjaPluginIntercept, "__getitem__", batch_core.JinjaPluginIntercept.__getitem__)
    for loader in (filter_loader, test_loader):
        list(loader.all())
    batch_core.find_jinja_names_first()
    searched = []
    monkeypatch.setattr(type(filter_loader), "get", lambda self, name, *_: searched.append(name) or get(self, name))
    assert Templar(loader=DataLoader()).template(trust_as_template(template)) == value
    assert not {"upper", "odd"} & set(searched)


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Compiled templates in a directory of their own; ansible-core is as before afterwards."""
    for name in ("compile", "compile_expression"):
        monkeypatch.setattr(batch_core.AnsibleEnvironment, name, getattr(batch_core.AnsibleEnvironment, name))
    kept = batch_core.Compiled(tmp_path)
    kept.install()
    return kept


def test_compiled_templates_mean_the_same(compiled):
    """Compiled for the first time, from memory, and by a process that only finds the files."""
    text, words = trust_as_template("{% for each in words %}{{ each | upper }}\\n{% endfor %}"), ["a", "b"]
    condition = trust_as_template("words | length == 2")

    def render(**options):
        templar = Templar(loader=DataLoader(), variables={"words": words})
        return templar.template(text, **options), templar.evaluate_conditional(condition)

    first, escaped = render(), render(escape_backslashes=False)
    files = set(compiled.directory.iterdir())
    assert files and render() == first and render(escape_backslashes=False) == escaped and set(compiled.directory.iterdir()) == files
    found = dict(compiled.codes)
    compiled.codes.clear()
    assert render() == first and compiled.codes.keys() <= found.keys()


def test_damaged_code_is_compiled_anew(compiled):
    text = trust_as_template("{{ 1 + 1 }}")
    Templar(loader=DataLoader()).template(text)
    for file in compiled.directory.iterdir():
        file.write_bytes(b"")
    compiled.codes.clear()
    assert Templar(loader=DataLoader()).template(text) == 2


def test_too_many_files_are_removed(tmp_path, monkeypatch):
    for number in range(3):
        (tmp_path / str(number)).touch()
    monkeypatch.setattr(batch_core.Compiled, "MOST", 2)
    batch_core.Compiled(tmp_path)
    assert not list(tmp_path.iterdir())
