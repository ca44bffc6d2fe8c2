"""Checkpoints from the Hugging Face hub, by ``huggingface_hub``: its cache, token, mirrors and offline switches.

What is whole in the cache is used without any network. What is downloaded is only what is needed, weights in one
format, and counts as cached once every file has been compared with its hash. Never imports torch.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ModelError
from ...text import one_line
from .files import CONFIG_NAME, NEEDED_TEXT_NAMES, TEXT_NAMES, TOKENIZER_NAMES, WEIGHT_NAMES, find_weight_files
from .public import nearest

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

log = logging.getLogger(__name__)

UNCHECKED = ".unchecked-"  # and a commit: a file beside a repository's snapshots, while that commit is not checked

_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")  # git's of a commit or small file, or the SHA-256 of a large file
_FILE_NAME = re.compile(r"[\w-]{1,128}", re.ASCII)
_PASSWORD = re.compile(r"(?<=//)[^/@\s]*@")  # and user, of an address

A_COPY = "give the path of a copy from another machine"
ANOTHER_WAY = f"set HF_ENDPOINT to a mirror, or {A_COPY}"


@dataclass(frozen=True)
class HubAccess:
    """How to reach the hub, where it is not as the environment says."""

    cache_dir: str | Path | None = None
    token: str | bool | None = None  # True: the one that `hf auth login` has kept
    local_files_only: bool = False  # no network, as with HF_HUB_OFFLINE
    force_download: bool = False  # also what is in the cache


USUAL_ACCESS = HubAccess()


def cached_folder(repo: str, revision: str | None, access: HubAccess = USUAL_ACCESS) -> Path | None:
    """The snapshot of a repository in the cache, if all that a checkpoint needs is in it.

    Part of it may be there: a download broke off, or another program needed less. Raises ModelError for a name that
    no repository can have.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    if not _has_home() and access.cache_dir is None:
        return None
    try:
        config = huggingface_hub.try_to_load_from_cache(repo, CONFIG_NAME, access.cache_dir, revision)
    except HFValidationError as error:
        raise ModelError(f"{repo} is neither a folder nor a hub id: {str(error).splitlines()[0]}") from error
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    if _mark(repo, folder.name, access).exists():
        return None
    try:
        find_weight_files(folder)
    except ModelError:
        return None
    return folder if all(any((folder / name).is_file() for name in names) for names in NEEDED_TEXT_NAMES) else None


def download(repo: str, revision: str | None, bar: type | None = None, access: HubAccess = USUAL_ACCESS) -> Path:
    """Download what is needed of a repository into the hub's cache → its snapshot. Raises ModelError.

    A connection that breaks is taken up again where it broke, as the hub's library does it. ``bar`` is a tqdm class
    that shows the progress.
    """
    _require_hub(repo, access)
    with translated_errors(repo, revision):
        info = repository(repo, revision, access)
        return _fetched(repo, revision, info, needed_files(info, repo), bar, access)


def remove(repo: str, revision: str | None) -> int:
    """Delete a repository, or one revision of it, from the cache → the bytes that this frees. Raises ModelError."""
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import CacheNotFound

    commits: list[str] = []
    with suppress(CacheNotFound):
        cache = huggingface_hub.scan_cache_dir()
        found = frozenset(one for one in cache.repos if (one.repo_type, one.repo_id) == ("model", repo))
        cache = replace(cache, repos=found)  # a copy of a repository may have the same commits
        held = chain(*(one.revisions for one in found))
        commits = [one.commit_hash for one in held if revision in (None, one.commit_hash, *one.refs)]
    if not commits:
        which = repo if revision is None else f"{repo}@{revision}"
        raise ModelError(f"{which} is not in the cache ({constants.HF_HUB_CACHE}): `xclip models list` shows what is")
    plan = cache.delete_revisions(*commits)
    plan.execute()
    return plan.expected_freed_size


def repository(repo: str, revision: str | None, access: HubAccess = USUAL_ACCESS) -> ModelInfo:
    """What the hub says a repository holds, of the form that it must have. Raises ModelError, and the library's
    errors, which ``translated_errors`` translates."""
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    try:
        info = huggingface_hub.HfApi(token=access.token).model_info(repo, revision=revision, files_metadata=True)
        siblings = info.siblings or []
        whole = _is_hash(info.sha) and all(
            isinstance(file.rfilename, str)
            and isinstance(file.size, int | None)
            and _is_hash(file.lfs.sha256 if file.lfs else file.blob_id)
            for file in siblings
        )
    except HFValidationError:
        raise
    except (TypeError, KeyError, ValueError, AttributeError) as error:  # what it makes of JSON of another form
        raise ModelError(f"{_endpoint()} does not respond like the hub: {one_line(error)}") from error
    if not whole:
        raise ModelError(f"{_endpoint()} does not respond like the hub: a commit or a file of {repo} has no hash")
    return info


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None


def _fetched(
    repo: str,
    revision: str | None,
    info: ModelInfo,
    wanted: Sequence[str],
    bar: type | None = None,
    access: HubAccess = USUAL_ACCESS,
) -> Path:
    """Files of a repository in the hub's cache, downloaded and compared with their hashes → the snapshot."""
    import huggingface_hub
    from huggingface_hub import constants

    assert info.sha is not None
    hashes = hub_hashes(info, wanted)
    present = set() if access.force_download else {n for n in wanted if _is_cached(repo, n, info.sha, access)}
    size = sum(file.size or 0 for file in info.siblings or [] if file.rfilename in hashes.keys() - present)
    log.info("downloading %s (%.0f MB) into %s", repo, size / 1e6, access.cache_dir or constants.HF_HUB_CACHE)
    mark = _mark(repo, info.sha, access)
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()  # it stays if this process is killed: what is there is then compared by the next
    with _checked_answers():
        folder = Path(
            huggingface_hub.snapshot_download(
                repo,
                revision=revision,
                allow_patterns=list(wanted),
                tqdm_class=bar,
                cache_dir=access.cache_dir,
                token=access.token,
                force_download=access.force_download,
            )
        )
    if folder.name != info.sha:
        raise ModelError(f"{repo} changed on the hub during the download: try again")
    check_hashes(repo, folder, hashes)
    mark.unlink(missing_ok=True)
    return folder


def _mark(repo: str, commit: str, access: HubAccess = USUAL_ACCESS) -> Path:
    """The file that says that a commit's files in the cache are not all compared with their hashes."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache = access.cache_dir or constants.HF_HUB_CACHE
    return Path(cache, repo_folder_name(repo_id=repo, repo_type="model"), UNCHECKED + commit)


@contextmanager
def _checked_answers() -> Iterator[None]:
    """Refuse answers whose headers, of which the library makes names of files, are no such names."""
    import huggingface_hub

    client: Any = huggingface_hub.get_session()
    before = client.event_hooks
    client.event_hooks = {**before, "response": [*before.get("response", []), _check_headers]}
    try:
        yield
    finally:
        client.event_hooks = before


def _check_headers(response: Any) -> None:
    """Raises ModelError."""
    if response.request.method != "HEAD":
        return  # a file's bytes, from wherever they are stored
    commit = response.headers.get("X-Repo-Commit")
    tag = response.headers.get("X-Linked-ETag") or response.headers.get("ETag")
    named = tag is None or _FILE_NAME.fullmatch(tag.removeprefix("W/").strip('"'))
    if not named or (commit is not None and not _is_hash(commit)):
        raise ModelError(f"{_endpoint()} does not respond like the hub: a file's ETag or X-Repo-Commit is no hash")


def _endpoint() -> str:
    from huggingface_hub import constants

    return one_line(without_password(constants.ENDPOINT))


def without_password(text: str) -> str:
    """A text without the user and password of addresses in it: HF_ENDPOINT may have them."""
    return _PASSWORD.sub("", text)


def is_in_cache(path: Path) -> bool:
    """Whether a real path is below the cache of the hub's library."""
    from huggingface_hub import constants

    return _has_home() and path.is_relative_to(Path(constants.HF_HUB_CACHE).resolve())


def _has_home() -> bool:
    """Whether the library's cache is somewhere. Where a user has no home, it would be a folder called ``~``, here."""
    from huggingface_hub import constants

    return not constants.HF_HUB_CACHE.startswith("~")


def _require_hub(repo: str, access: HubAccess = USUAL_ACCESS) -> None:
    from huggingface_hub import constants

    if not _has_home() and access.cache_dir is None:
        raise ModelError(f"there is no home folder to store {repo} in: set HF_HOME to a folder, or {ANOTHER_WAY}")
    if constants.HF_HUB_OFFLINE or access.local_files_only:
        switch = "local_files_only" if access.local_files_only else "--offline or HF_HUB_OFFLINE"
        raise ModelError(
            f"{repo} is not downloaded, or only partly ({access.cache_dir or constants.HF_HUB_CACHE}), and downloads "
            f"are disabled ({switch}): run `xclip models pull {repo}` with them enabled, or {A_COPY}"
        )


def tokenizer_folder(repo: str, revision: str | None) -> Path:
    """The snapshot of a repository with its tokenizer's files, from the cache or downloaded. Raises ModelError."""
    import huggingface_hub
    from huggingface_hub import constants

    cached = huggingface_hub.try_to_load_from_cache(repo, "tokenizer.json", revision=revision)
    if isinstance(cached, str) and not _mark(repo, Path(cached).parent.name).exists():
        return Path(cached).parent
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"it is not in the cache ({constants.HF_HUB_CACHE}), and downloads are disabled")
    with translated_errors(repo, revision):
        info = repository(repo, revision)
        names = {file.rfilename for file in info.siblings or []}
        return _fetched(repo, revision, info, [name for name in TOKENIZER_NAMES if name in names])


def peek(repo: str, revision: str | None) -> tuple[Path, dict[str, Any]]:
    """A snapshot with a repository's config, and what its weights are, which stay at the hub. Raises ModelError."""
    import huggingface_hub

    _require_hub(repo)
    with translated_errors(repo, revision):
        info = repository(repo, revision)
        wanted = [name for name in needed_files(info, repo) if name.endswith((".safetensors", ".bin"))]
        folder = _fetched(repo, info.sha, info, [CONFIG_NAME])
        types: Counter[str] | None = None
        if wanted[0].endswith(".safetensors"):
            metadata = huggingface_hub.get_safetensors_metadata(repo, revision=info.sha)
            types = Counter(t.dtype for file in metadata.files_metadata.values() for t in file.tensors.values())
    size = sum(file.size or 0 for file in info.siblings or [] if file.rfilename in wanted)
    return folder, {
        "files": wanted,
        "megabytes": round(size / 1e6, 1),
        "tensors_by_dtype": None if types is None else dict(types),
    }


def needed_files(info: ModelInfo, repo: str) -> list[str]:
    """The files of a repository that a checkpoint needs, weights in one format. Raises ModelError."""
    names = {file.rfilename for file in info.siblings or []}
    weights = next((name for name in WEIGHT_NAMES if name in names), None)
    if weights is None or CONFIG_NAME not in names:
        raise ModelError(f"{repo} on the hub is not a checkpoint: it lacks config.json or weights")
    shards = []
    if weights.endswith(".json"):
        stem, suffix = weights.removesuffix(".index.json").split(".")
        shards = sorted(name for name in names if re.fullmatch(rf"{stem}-\d+-of-\d+\.{suffix}", name))
    return [name for name in TEXT_NAMES if name in names] + [weights, *shards]


def hub_hashes(info: ModelInfo, names: Iterable[str]) -> dict[str, str]:
    """The hub's hashes of files: SHA-256 of large ones, which the weights are, and git's SHA-1 of small ones."""
    wanted = set(names)
    files = [file for file in info.siblings or [] if file.rfilename in wanted]
    return {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id or "" for file in files}


def check_hashes(repo: str, folder: Path, expected: dict[str, str]) -> None:
    """Compare files of a snapshot with the hub's hashes. A wrong file leaves the cache. Raises ModelError."""
    for name, known in expected.items():
        path = folder / name
        found = file_hash(path, known)
        if found != known:
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            raise ModelError(
                f"{name} of {repo} is damaged and was removed from the cache: its hash is {found[:12]}..., the "
                f"hub's is {known[:12]}...; download it again"
            )


def file_hash(path: Path, like: str) -> str:
    """A file's hash of the same kind as another: SHA-256, as of large files, or git's SHA-1, as of small ones."""
    with path.open("rb") as file:
        if len(like) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        while part := file.read(1 << 20):
            digest.update(part)
        return digest.hexdigest()


def _is_cached(repo: str, name: str, commit: str | None, access: HubAccess) -> bool:
    import huggingface_hub

    return isinstance(huggingface_hub.try_to_load_from_cache(repo, name, access.cache_dir, commit), str)


@contextmanager
def translated_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """What the hub and its library say, as a ModelError that says what to do."""
    from huggingface_hub import errors

    # the hub library's own HTTP errors derive from those of its HTTP client, whichever that is
    client_error: Any = errors.HfHubHTTPError.__bases__[0]
    try:
        yield
    except ModelError:
        raise
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{repo} is gated: accept its terms on its hub page, then log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {repo}, or it is private: {nearest(repo)}check the name, or log in with "
            "`hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{repo} has no revision {revision!r} on the hub") from error
    except (client_error, OSError) as error:
        raise ModelError(_advice(repo, error)) from error
    except ImportError as error:  # of what a proxy in the environment needs
        raise ModelError(f"cannot reach the hub: {_reason(error)}") from error
    except Exception as error:  # whatever the library makes of an answer that is not the hub's
        raise ModelError(
            f"cannot download {repo}: the server that answered is not the hub ({_reason(error)}): check "
            f"HF_ENDPOINT, the proxy and whether the network requires a login, or {ANOTHER_WAY}"
        ) from error


def _reason(error: Exception) -> str:
    """What an error says, on one line, without the password of any address in it."""
    said = str(error).splitlines() if str(error).strip() else []
    return one_line(without_password(f"{type(error).__name__}: {said[0]}" if said else type(error).__name__))


def _advice(repo: str, error: Exception) -> str:
    """One line on what went wrong between here and the hub, and what to do."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full: {repo} was not downloaded; free some space, or set HF_HOME to another disk"
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = one_line(without_password((str(error) or type(error).__name__).splitlines()[0]))
    if status == 429:
        return f"the hub asks to slow down (429): {repo} was not downloaded; wait a few minutes and try again"
    if status in (401, 403):
        return (
            f"the hub refuses {repo} ({status}): log in with `hf auth login`, or check that your token has access to it"
        )
    if status is not None:
        return f"cannot download {repo} from the hub ({reason}): try again later, {ANOTHER_WAY}"
    if type(error).__name__ in ("RemoteProtocolError", "ReadError", "ReadTimeout") or "Consistency check" in reason:
        return f"the download of {repo} was interrupted ({reason}): run it again"
    return f"cannot download {repo} from the hub ({reason}): check the network and try again, {ANOTHER_WAY}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
