"""Versions are put in place whole, once, and never on top of each other."""

import dataclasses
import os
import pathlib
import threading

import pytest

import pipelines.store.release
from pipelines.store.local import LocalStore
from pipelines.store.release import (
    ModelInterface,
    Release,
    ReleaseError,
    StagedFiles,
    refuse_other_classes,
    release,
)
from serving_configs import load_manifest, record_files, version_problems
from tests.support.publishers import draft

MODEL = "cait_one"
NOTHING = StagedFiles("nowhere", ())


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "tree"


def stage(tree: pathlib.Path, content: str, attempt: str = "a") -> StagedFiles:
    path = tree / ".staging" / attempt / MODEL
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_text(content)
    (path / "variables" / "variables.index").write_text(content)
    return StagedFiles(path.relative_to(tree).as_posix(), record_files(path))


def publish(tree: pathlib.Path, content: str, run: str | None = None, **options) -> Release:
    run = run or f"run of {content}"
    staged = stage(tree, content, f"{run} {content}")
    return release(LocalStore(str(tree)), staged, draft(MODEL, run), **options)


def names(tree: pathlib.Path) -> set[str]:
    return {path.name for path in (tree / "serving" / MODEL).iterdir()}


def test_first_version_is_1_and_the_staged_model_stays_as_it_is(tree):
    staged = stage(tree, "a")
    released = release(LocalStore(str(tree)), staged, draft(MODEL, "run"))
    assert released == Release(1, str(tree / "serving" / MODEL / "1"))
    path = pathlib.Path(released.path)
    assert (path / "variables" / "variables.index").read_text() == "a"
    assert record_files(tree / staged.path) == staged.files
    assert not (tree / staged.path / "assets.extra").exists()
    manifest = load_manifest(path)
    assert (manifest.model, manifest.version, manifest.run) == (MODEL, 1, "run")
    assert version_problems(path) == []


def test_next_version_is_above_the_highest_and_others_stay(tree):
    (tree / "serving" / MODEL / "007").mkdir(parents=True)
    (tree / "serving" / MODEL / "notes").mkdir()
    assert publish(tree, "a").version == 8
    assert names(tree) == {"007", "8", "notes"}


def test_number_of_an_archive_is_not_used_again(tree):
    (tree / "hub" / "cait" / MODEL).mkdir(parents=True)
    (tree / "hub" / "cait" / MODEL / "4.tar.gz").write_bytes(b"")
    assert publish(tree, "a").version == 5


def test_step_that_is_done_again_finds_its_version(tree):
    first = publish(tree, "a", run="run")
    assert publish(tree, "b", run="run") == first
    # The staged files are gone by then.
    assert release(LocalStore(str(tree)), NOTHING, draft(MODEL, "run")) == first
    assert (pathlib.Path(first.path) / "saved_model.pb").read_text() == "a"
    assert publish(tree, "c", run="another").version == 2


def test_nothing_staged_is_nothing_published(tree):
    with pytest.raises(FileNotFoundError, match="nothing to publish"):
        release(LocalStore(str(tree)), NOTHING, draft(MODEL, "run"))
    assert not (tree / "serving").exists()


def test_same_content_is_published_once(tree):
    publish(tree, "a")
    publish(tree, "b")
    again = publish(tree, "a", run="later")
    assert again == Release(1, str(tree / "serving" / MODEL / "1"), new=False)
    assert names(tree) == {"1", "2"}


def test_what_is_written_for_servers_does_not_make_other_content(tree):
    publish(tree, "a")
    extra = {
        "batching_params.pbtxt": b"max_batch_size { value: 4 }",
        "assets.extra/tf_serving_warmup_requests": b"x",
    }
    staged = dataclasses.replace(stage(tree, "a", "again"), extra=extra)
    assert not release(LocalStore(str(tree)), staged, draft(MODEL, "later")).new


def test_number_that_was_asked_for(tree):
    assert publish(tree, "a", version=5).version == 5
    assert publish(tree, "a", run="later", version=5) == Release(
        5, str(tree / "serving" / MODEL / "5"), new=False
    )
    # Lower ones may be asked for, too, and the same content under another number.
    assert publish(tree, "a", run="third", version=3).version == 3
    assert publish(tree, "b").version == 6


@pytest.mark.parametrize("name", ["5", "005"])
def test_number_with_other_content_is_refused(tree, name):
    publish(tree, "a", version=5)
    (tree / "serving" / MODEL / "5").rename(tree / "serving" / MODEL / name)
    before = sorted(tree.joinpath("serving").rglob("*"))
    with pytest.raises(ReleaseError, match=rf"{MODEL}/{name} is there already, with other content"):
        publish(tree, "b", version=5)
    assert sorted(tree.joinpath("serving").rglob("*")) == before


def test_file_in_the_way_of_a_number_is_named(tree):
    (tree / "serving" / MODEL).mkdir(parents=True)
    (tree / "serving" / MODEL / "5").write_text("in the way")
    with pytest.raises(ReleaseError, match=f"{MODEL}/5 is there already"):
        publish(tree, "a", version=5)
    assert publish(tree, "a", run="later").version == 6


def test_file_in_the_way_of_a_base_path_is_named(tree):
    (tree / "serving").mkdir(parents=True)
    (tree / "serving" / MODEL).write_text("in the way")
    with pytest.raises(NotADirectoryError, match=f"serving/{MODEL}"):
        publish(tree, "a")
    assert (tree / "serving" / MODEL).read_text() == "in the way"


def test_damaged_manifest_keeps_its_number(tree):
    first = publish(tree, "a")
    (pathlib.Path(first.path) / "assets.extra" / "manifest.json").write_text("{")
    assert publish(tree, "a", run="later").version == 2


def test_untrained_weights_do_not_come_beside_trained_ones(tree):
    publish(tree, "trained")
    staged = stage(tree, "untrained", "u")
    untrained = draft("cait_two", "run", trained=False)
    with pytest.raises(ReleaseError, match="--allow_untrained"):
        release(LocalStore(str(tree)), staged, untrained)
    assert not (tree / "serving" / "cait_two").exists()
    assert release(LocalStore(str(tree)), staged, untrained, allow_untrained=True).version == 1
    # Trained weights may come beside untrained ones.
    assert publish(tree, "more").version == 2


def test_untrained_weights_fill_a_tree_of_their_own(tree):
    for content in ("a", "b"):
        staged = stage(tree, content, content)
        release(LocalStore(str(tree)), staged, draft(MODEL, content, trained=False))
    assert names(tree) == {"1", "2"}


def test_runs_at_once_get_versions_of_their_own(tree):
    staged = [stage(tree, str(i), str(i)) for i in range(8)]
    released = []
    barrier = threading.Barrier(len(staged))

    def run(i: int) -> None:
        barrier.wait()
        released.append((i, release(LocalStore(str(tree)), staged[i], draft(MODEL, f"run {i}"))))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(staged))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry.version for _, entry in released) == list(range(1, 9))
    for i, entry in released:
        path = pathlib.Path(entry.path)
        assert (path / "saved_model.pb").read_text() == str(i)
        manifest = load_manifest(path)
        assert (manifest.version, manifest.run) == (entry.version, f"run {i}")


def test_runs_at_once_with_the_same_content_publish_one_version(tree):
    staged = [stage(tree, "same", str(i)) for i in range(8)]
    released = []
    barrier = threading.Barrier(len(staged))

    def run(i: int) -> None:
        barrier.wait()
        released.append(release(LocalStore(str(tree)), staged[i], draft(MODEL, f"run {i}")))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(staged))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.version for entry in released] == [1] * 8
    assert sum(entry.new for entry in released) == 1
    assert names(tree) == {"1"}


def test_same_content_that_comes_after_the_look_is_published_once(tree, monkeypatch):
    staged = [stage(tree, "same", str(i)) for i in range(2)]
    look = pipelines.store.release.read_manifests

    def look_then_other(*arguments):
        found = look(*arguments)
        monkeypatch.setattr(pipelines.store.release, "read_manifests", look)
        if not (tree / "serving").exists():
            assert release(LocalStore(str(tree)), staged[1], draft(MODEL, "other")).version == 1
        return found

    monkeypatch.setattr(pipelines.store.release, "read_manifests", look_then_other)
    late = release(LocalStore(str(tree)), staged[0], draft(MODEL, "late"))
    assert (late.version, late.new) == (1, False)
    assert names(tree) == {"1"}


def test_files_are_on_the_disk_before_the_version_is_in_place(tree, monkeypatch):
    """The order that a power cut can't break: contents, directories, then the rename."""
    calls = []
    fsync, rename = os.fsync, pathlib.Path.rename

    def recording_fsync(descriptor: int) -> None:
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    def recording_rename(self: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
        calls.append("rename")
        return rename(self, target)

    staged = stage(tree, "a")
    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(pathlib.Path, "rename", recording_rename)
    release(LocalStore(str(tree)), staged, draft(MODEL, "run"))
    place = calls.index("rename")
    inside = ("saved_model.pb", "assets.extra/manifest.json", "variables/variables.index")
    (top,) = {call.removesuffix(f"/{inside[0]}") for call in calls if call.endswith(inside[0])}
    assert {top, *(f"{top}/{name}" for name in inside)} <= set(calls[:place])
    assert calls[place + 1 :] == [str(tree / "serving" / MODEL)]
    assert str(tree / "serving") in calls[:place]


def test_a_model_is_copied_where_there_are_no_hard_links(tree, monkeypatch):
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    path = pathlib.Path(publish(tree, "a").path)
    assert version_problems(path) == []


def test_small_files_are_replaced_whole(tree):
    store = LocalStore(str(tree))
    store.write("a/b", b"one")
    store.write("a/b", b"two")
    assert store.children("a") == ["b"]
    with store.open("a/b") as file:
        assert file.read() == b"two"


def test_weights_of_other_classes_are_no_version_of_the_same_model(tree):
    """As another run publishes them after this one has looked."""
    first = draft(MODEL, "first")
    release(LocalStore(str(tree)), stage(tree, "a"), first)
    geometry = first.geometry
    for number, (other, message) in enumerate(
        (
            (dataclasses.replace(geometry, num_classes=5), "has 10 classes, the weights have 5;"),
            (
                dataclasses.replace(geometry, image_size=64, patches=16),
                "has images of 32 pixels, the weights have images of 64;",
            ),
        )
    ):
        staged = stage(tree, "b", f"b{number}")
        with pytest.raises(ReleaseError, match=message) as refused:
            release(
                LocalStore(str(tree)), staged, dataclasses.replace(first, geometry=other, run="b")
            )
        assert "--model_name" in str(refused.value)
    assert names(tree) == {"1"}


def test_what_makes_a_version_of_the_same_model():
    one = ModelInterface.of(draft(MODEL, "run"))
    features = dataclasses.replace(one, head="features")
    wider = dataclasses.replace(one.geometry, embed_dim=32)
    headless = dataclasses.replace(one.geometry, num_classes=0)
    named = dataclasses.replace(one, labels=tuple("abcdefghij"))
    numbered = dataclasses.replace(one, labels=())
    assert one.difference(one) is None
    assert one.difference(dataclasses.replace(one, geometry=wider)) is None
    assert features.difference(dataclasses.replace(features, geometry=wider)) == (
        "16 features",
        "32",
    )
    assert features.difference(dataclasses.replace(features, geometry=headless)) is None
    # From before labels were recorded.
    assert one.difference(named) is None
    assert numbered.difference(named) == ("class 0 '0'", "'a'")
    swapped = dataclasses.replace(one, labels=tuple("abcdefghji"))
    assert named.difference(swapped) == ("class 8 'i'", "'j'")


def test_weights_without_names_of_their_classes_are_told_how_to_get_them(tree):
    named = dataclasses.replace(draft(MODEL, "run"), labels=tuple("abcdefghij"))
    store = LocalStore(str(tree))
    release(store, stage(tree, "a"), named)
    nameless = dataclasses.replace(ModelInterface.of(draft(MODEL, "run")), labels=())
    with pytest.raises(ReleaseError, match="name the weights' classes with --labels, or publish"):
        refuse_other_classes(store, MODEL, nameless)
    others = dataclasses.replace(nameless, labels=tuple("bacdefghij"))
    with pytest.raises(ReleaseError) as refused:
        refuse_other_classes(store, MODEL, others)
    assert "--labels" not in str(refused.value)


def test_two_names_that_kubernetes_cannot_tell_apart_are_refused(tree):
    publish(tree, "a")
    store = LocalStore(str(tree))
    classes = ModelInterface.of(draft(MODEL, "run"))
    refuse_other_classes(store, MODEL, classes)
    with pytest.raises(ReleaseError, match=rf"{MODEL} has the same name as cait-one"):
        refuse_other_classes(store, "cait-one", classes)
