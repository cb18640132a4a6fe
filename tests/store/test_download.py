"""Downloads against a real server that cuts, stalls, lies and redirects: verified bytes, or a named error."""

from __future__ import annotations

import datetime
import email.utils
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import msgspec
import pytest

from localllm.errors import (
    AccessDeniedError,
    DigestMismatchError,
    DiskFullError,
    DownloadError,
    LocalLLMError,
    ModelNotFoundError,
)
from localllm.store import ranges
from localllm.store.addresses import addresses, is_public, origin_of
from localllm.store.download import download
from localllm.store.pull_settings import PullSettings
from localllm.store.sources.remote import RemoteFile
from localllm.store.web import LinkError, Web
from tests.store.hub_server import HubServer, Request, Served, cut, redirect, running_hub, stall, status

DATA = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
FAST = PullSettings(connections=4, part_bytes=40_000, connect_s=2.0, stall_s=5.0, backoff_s=0.001, max_tries=4)
NAME = "/m/x.gguf"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with running_hub() as hub:
        hub.add(NAME, DATA)
        yield hub


@pytest.fixture
def web() -> Iterator[Web]:
    with Web(connect_s=2.0, stall_s=5.0) as web:
        yield web


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "part"
    directory.mkdir()
    return directory / "data"


def remote(hub: HubServer, **how: object) -> RemoteFile:
    digest = hashlib.sha256(DATA).hexdigest()
    file = RemoteFile(f"{hub.url}{NAME}", "x.gguf", size_bytes=len(DATA), sha256=digest)
    return msgspec.structs.replace(file, **how)


def asked(hub: HubServer) -> list[str]:
    return [seen.headers.get("range", "all") for seen in hub.seen]


def test_parts_arrive_in_parallel_and_are_verified(hub: HubServer, web: Web, path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    together = threading.Barrier(4, timeout=10)

    def meet(request: Request) -> None:
        together.wait()  # broken unless four connections are open at once
        request.serve()

    hub.faults[NAME].extend([lambda request: request.serve(), meet, meet, meet, meet])
    digest = download(remote(hub), path, web, FAST, on_bytes=lambda done, total: told.append((done, total)))
    assert digest == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    assert path.read_bytes() == DATA
    assert sorted(asked(hub)) == sorted(f"bytes={a}-{min(a + 40_000, 300_000) - 1}" for a in range(0, 300_000, 40_000))
    assert told[-1] == (300_000, 300_000)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert sorted(p.name for p in path.parent.iterdir()) == ["data"]


@pytest.mark.parametrize("known", [True, False])
def test_size_and_digest_may_be_unknown(hub: HubServer, web: Web, path: Path, known: bool) -> None:
    file = remote(hub) if known else remote(hub, size_bytes=None, sha256=None)
    assert download(file, path, web, FAST) == f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    assert len(hub.seen) == 8


@pytest.mark.parametrize("size", [0, 1, 5, 39_999, 40_000, 40_001])
@pytest.mark.parametrize("known", [True, False])
def test_every_size(hub: HubServer, web: Web, path: Path, size: int, known: bool) -> None:
    sha256 = hub.add("/s.gguf", DATA[:size])
    download(remote(hub, url=f"{hub.url}/s.gguf", size_bytes=size if known else None, sha256=sha256), path, web, FAST)
    assert path.read_bytes() == DATA[:size]


def test_a_cut_connection_goes_on_where_it_ended(hub: HubServer, web: Web, path: Path) -> None:
    hub.faults[NAME].extend([cut(1000), cut(10_000), cut(0)])
    download(remote(hub), path, web, msgspec.structs.replace(FAST, connections=1, part_bytes=1 << 20))
    assert path.read_bytes() == DATA
    starts = [int(text.removeprefix("bytes=").partition("-")[0]) for text in asked(hub)]
    assert starts == [0, 1000, 11_000, 11_000]


def test_a_stalled_connection_is_given_up(hub: HubServer, path: Path) -> None:
    hub.faults[NAME].append(stall(5000))
    with Web(stall_s=0.2) as web:
        download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA
    assert "bytes=5000-39999" in asked(hub)


def test_too_many_failures_are_an_error_and_what_arrived_stays(hub: HubServer, web: Web, path: Path) -> None:
    hub.faults[NAME].extend([cut(1000)] * 4)
    one = msgspec.structs.replace(FAST, connections=1, part_bytes=1 << 20)
    with pytest.raises(DownloadError, match="4 tries") as caught:
        download(remote(hub), path, web, one)
    assert "goes on from there" in str(caught.value.hint)
    hub.seen.clear()
    download(remote(hub), path, web, one)
    assert path.read_bytes() == DATA
    assert asked(hub) == ["bytes=4000-299999"]


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(hub: HubServer, web: Web, path: Path, code: int) -> None:
    hub.faults[NAME].extend([status(code), status(code, Retry_After="0")])
    download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA


def test_retry_after_is_honoured(hub: HubServer, web: Web, path: Path) -> None:
    soon = email.utils.format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2))
    for value in ("7200", soon):
        hub.faults[NAME].append(status(503, Retry_After=value))
        with pytest.raises(DownloadError, match="wants 7") as caught:
            download(remote(hub), path, web, FAST)
        assert caught.value.facts["retry_after_s"] > 7000


@pytest.mark.parametrize(
    ("code", "error"),
    [(401, AccessDeniedError), (403, AccessDeniedError), (404, ModelNotFoundError), (400, DownloadError)],
)
def test_refusals_are_named_and_not_repeated(
    hub: HubServer, web: Web, path: Path, code: int, error: type[LocalLLMError]
) -> None:
    hub.faults[NAME].append(status(code))
    with pytest.raises(error) as caught:
        download(remote(hub, access_hint="click the licence"), path, web, FAST)
    assert len(hub.seen) == 1
    assert code not in (401, 403) or caught.value.hint == "click the licence"


def test_a_server_without_ranges(hub: HubServer, web: Web, path: Path) -> None:
    hub.add(NAME, DATA, ranges=False)
    hub.faults[NAME].append(cut(1000))
    download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA
    assert len(hub.seen) == 2


def test_without_ranges_it_does_not_try_for_ever(hub: HubServer, web: Web, path: Path) -> None:
    big = random.Random(3).randbytes(3 << 20)
    sha256 = hub.add(NAME, big, ranges=False)
    hub.faults[NAME].extend([cut(2 << 20)] * 50)
    with pytest.raises(DownloadError, match="tries"):
        download(remote(hub, size_bytes=len(big), sha256=sha256), path, web, FAST)
    assert len(hub.seen) <= 6


def test_no_length_at_all(hub: HubServer, web: Web, path: Path) -> None:
    def unsized(request: Request) -> None:
        request.start(200, {"Connection": "close"})
        request.write(DATA)
        request.hang_up()

    hub.answers[NAME] = unsized
    assert download(remote(hub, size_bytes=None), path, web, FAST)
    assert path.read_bytes() == DATA


def test_wrong_ranges_fall_back_to_the_whole_file(hub: HubServer, web: Web, path: Path) -> None:
    def shifted(request: Request) -> None:
        if request.range is None:
            request.serve()
        else:
            body = DATA[1:40_001]
            request.send(206, body, {"Content-Range": f"bytes 1-40000/{len(DATA)}"})

    hub.answers[NAME] = shifted
    download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA
    assert asked(hub)[-1] == "all"


@pytest.mark.parametrize("header", ["bytes */300000", "bytes 0-39999/*", "bytes 0-39999/10", "items 0-1/2", ""])
def test_nonsense_ranges_fall_back_to_the_whole_file(hub: HubServer, web: Web, path: Path, header: str) -> None:
    hub.faults[NAME].append(lambda request: request.send(206, DATA[:40_000], {"Content-Range": header}))
    download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA


def test_wrong_bytes_of_the_right_size_leave_nothing(hub: HubServer, web: Web, path: Path) -> None:
    hub.add(NAME, OTHER)
    with pytest.raises(DigestMismatchError) as caught:
        download(remote(hub), path, web, FAST)
    assert caught.value.facts["found"] == f"sha256:{hashlib.sha256(OTHER).hexdigest()}"
    assert list(path.parent.iterdir()) == []
    assert len(hub.seen) == 8


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("size", [299_999, 300_001])
def test_a_size_that_was_not_promised(hub: HubServer, web: Web, path: Path, size: int, ranged: bool) -> None:
    hub.add(NAME, (DATA + b"x")[:size], ranges=ranged)
    with pytest.raises(DownloadError, match=f"has {size} bytes"):
        download(remote(hub), path, web, FAST)


def test_a_body_longer_than_announced(hub: HubServer, web: Web, path: Path) -> None:
    def chunked(request: Request) -> None:
        request.start(200, {"Transfer-Encoding": "chunked"})
        for _ in range(40):
            request.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        request.write(b"0\r\n\r\n")

    hub.answers[NAME] = chunked
    with pytest.raises(DownloadError, match="more"):
        download(remote(hub), path, web, FAST)


def test_a_compressed_body_is_refused(hub: HubServer, web: Web, path: Path) -> None:
    hub.faults[NAME].append(lambda request: request.send(200, b"x" * 300_000, {"Content-Encoding": "gzip"}))
    with pytest.raises(DownloadError, match="gzip"):
        download(remote(hub), path, web, FAST)


def interrupted(hub: HubServer, web: Web, path: Path, file: RemoteFile) -> None:
    """Leave the first 100,000 bytes of a download."""
    hub.faults[NAME].extend([cut(100_000), status(404)])
    with pytest.raises(ModelNotFoundError):
        download(file, path, web, msgspec.structs.replace(FAST, connections=1, part_bytes=1 << 20))
    hub.seen.clear()


def test_resume_fetches_only_what_is_missing(hub: HubServer, web: Web, path: Path) -> None:
    interrupted(hub, web, path, remote(hub))
    download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA
    assert min(int(text[6:].partition("-")[0]) for text in asked(hub)) == 100_000


def test_resume_from_another_source_of_the_same_bytes(hub: HubServer, web: Web, path: Path) -> None:
    interrupted(hub, web, path, remote(hub))
    hub.add("/mirror/x.gguf", DATA, etag='"another"')
    download(remote(hub, url=f"{hub.url}/mirror/x.gguf"), path, web, FAST)
    assert path.read_bytes() == DATA
    assert asked(hub)[0].startswith("bytes=100000-")


def test_resume_of_wrong_bytes_is_mended_by_a_fresh_start(hub: HubServer, web: Web, path: Path) -> None:
    hub.add(NAME, OTHER)
    interrupted(hub, web, path, remote(hub))
    hub.add("/mirror/x.gguf", DATA)
    download(remote(hub, url=f"{hub.url}/mirror/x.gguf"), path, web, FAST)
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("etag", ['"v2"', None])
def test_an_unverifiable_resume_begins_anew_when_the_file_changed(
    hub: HubServer, web: Web, path: Path, etag: str | None
) -> None:
    file = remote(hub, size_bytes=None, sha256=None)
    hub.add(NAME, DATA, etag=None if etag is None else '"v1"')
    interrupted(hub, web, path, file)
    hub.add(NAME, OTHER, etag=etag)
    download(file, path, web, FAST)
    assert path.read_bytes() == OTHER


def test_the_file_changes_while_it_is_fetched(hub: HubServer, web: Web, path: Path) -> None:
    def change(request: Request) -> None:
        request.file = hub.files[NAME] = Served(OTHER, etag='"v2"')
        request.serve()

    hub.faults[NAME].extend([lambda request: request.serve(), lambda request: request.serve(), change])
    download(remote(hub, sha256=None), path, web, FAST)
    assert path.read_bytes() == OTHER


def test_a_file_that_changes_every_time_is_an_error(hub: HubServer, web: Web, path: Path) -> None:
    count = iter(range(1000))

    def change(request: Request) -> None:
        request.file = Served(OTHER, etag=f'"v{next(count)}"')
        request.serve()

    hub.answers[NAME] = change
    with pytest.raises(DownloadError, match="changed"):
        download(remote(hub, sha256=None), path, web, FAST)


@pytest.mark.parametrize("state", [b"", b"{", b'{"url": 1}', None])
def test_a_broken_memory_is_no_memory(hub: HubServer, web: Web, path: Path, state: bytes | None) -> None:
    interrupted(hub, web, path, remote(hub))
    if state is None:
        os.truncate(path, 50_000)
    else:
        (path.parent / ranges.STATE_NAME).write_bytes(state)
    download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA
    assert "bytes=0-39999" in asked(hub)


def test_cancel_ends_a_waiting_read_at_once_and_keeps_what_arrived(hub: HubServer, web: Web, path: Path) -> None:
    hub.faults[NAME].extend([lambda request: request.serve(), stall(100), stall(100), stall(100), stall(100)])
    cancelled, first_part = threading.Event(), threading.Event()
    outcome: list[BaseException] = []

    def report(done: int, _: int | None) -> None:
        if done >= 40_000:
            first_part.set()

    def run() -> None:
        try:
            download(remote(hub), path, web, FAST, on_bytes=report, cancelled=cancelled)
        except BaseException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    assert hub.reached.wait(10)
    assert first_part.wait(10)
    cancelled.set()
    thread.join(3)  # the stall time is 5 s
    assert not thread.is_alive()
    assert isinstance(outcome[0], CancelledError)
    hub.release.set()
    hub.faults.clear()
    hub.seen.clear()
    download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA
    assert "bytes=0-39999" not in asked(hub)


def test_an_error_in_the_callers_report_stops_everything(hub: HubServer, web: Web, path: Path) -> None:
    def report(*_: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(remote(hub), path, web, FAST, on_bytes=report)
    download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA


@pytest.mark.skipif(sys.platform == "win32", reason="limits file sizes with RLIMIT_FSIZE")
def test_a_full_disk_is_said_and_gives_its_space_back(hub: HubServer, path: Path) -> None:
    """A child process with a file size limit stands in for the disk: its writes fail in the system call."""
    script = f"""
        import errno, os, resource, signal, sys
        from pathlib import Path
        from localllm.errors import DiskFullError
        from localllm.store import files
        from localllm.store.download import download
        from localllm.store.pull_settings import PullSettings
        from localllm.store.sources.remote import RemoteFile
        from localllm.store.web import Web
        files._FULL.add(errno.EFBIG)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        file = RemoteFile({hub.url + NAME!r}, "x.gguf", size_bytes={len(DATA)})
        try:
            download(file, Path({str(path)!r}), Web(), PullSettings(part_bytes=40_000))
        except DiskFullError as exc:
            print("full:", exc.message)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("full: no room"), done.stderr
    assert list(path.parent.iterdir()) == []


def test_too_little_room_is_said_before_the_first_byte(
    hub: HubServer, web: Web, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localllm.store.files.free_bytes", lambda _: 1000)
    with pytest.raises(DiskFullError) as caught:
        download(remote(hub), path, web, FAST)
    assert caught.value.facts["free_bytes"] == 1000
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.parametrize("seed", range(5))
def test_kill_9_anywhere_resumes_to_the_right_bytes(hub: HubServer, web: Web, path: Path, seed: int) -> None:
    script = f"""
        import sys
        from pathlib import Path
        from localllm.store import transfer
        from localllm.store.download import download
        from localllm.store.pull_settings import PullSettings
        from localllm.store.sources.remote import RemoteFile
        from localllm.store.web import Web
        transfer._SAVE_BYTES = 10_000
        sha256 = {hashlib.sha256(DATA).hexdigest()!r}
        file = RemoteFile({hub.url + NAME!r}, "x.gguf", size_bytes={len(DATA)}, sha256=sha256)
        download(file, Path({str(path)!r}), Web(), PullSettings(part_bytes=40_000))
    """
    rng = random.Random(seed)
    hub.faults[NAME].extend([lambda request: request.serve()] * rng.randint(0, 5))
    hub.faults[NAME].extend([stall(rng.randint(0, 40_000)) for _ in range(4)])
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    assert hub.reached.wait(30)
    child.send_signal(signal.SIGKILL)
    child.wait()
    hub.release.set()
    hub.faults.clear()
    download(remote(hub), path, web, FAST)
    assert path.read_bytes() == DATA


# -- redirects, secrets, addresses


def test_redirects_are_followed_and_secrets_stay_at_home(hub: HubServer, web: Web, path: Path) -> None:
    with running_hub() as cdn:
        cdn.add("/blob", DATA)
        hub.answers[NAME] = redirect("/hop?again=1")
        hub.answers["/hop"] = redirect(f"{cdn.url}/blob?signed=1", 307)
        file = remote(hub, secrets=(("Authorization", "Bearer s3cret"), ("Cookie", "m_session_id=s3cret")))
        download(file, path, web, FAST)
        assert path.read_bytes() == DATA
        assert {seen.headers["authorization"] for seen in hub.seen} == {"Bearer s3cret"}
        assert len(cdn.seen) == 8
        for seen in cdn.seen:
            assert "s3cret" not in repr(seen)
    assert "s3cret" not in repr(file)


def test_an_address_that_ran_out_is_asked_for_again(hub: HubServer, web: Web, path: Path) -> None:
    with running_hub() as cdn:
        cdn.add("/blob", DATA)
        hub.answers[NAME] = redirect(f"{cdn.url}/blob")
        cdn.faults["/blob"].extend([lambda request: request.serve(), status(403), status(403)])
        download(remote(hub), path, web, msgspec.structs.replace(FAST, connections=1))
    assert path.read_bytes() == DATA
    assert len(hub.seen) == 3


def test_redirects_without_end(hub: HubServer, web: Web, path: Path) -> None:
    hub.answers[NAME] = redirect(NAME)
    with pytest.raises(DownloadError, match="more than 10"):
        download(remote(hub), path, web, FAST)
    assert len(hub.seen) == 11


@pytest.mark.parametrize(
    "target",
    [
        "http://[::1",
        "https://h:x/",
        "file:///etc/passwd",
        "ftp://h/x",
        "http://192.168.1.1/x",
        "https://10.0.0.1/x",
        "http://example.com/x",
        "https://u:p@h/x",
    ],
)
def test_redirects_to_where_nothing_is_fetched_from(hub: HubServer, web: Web, path: Path, target: str) -> None:
    hub.answers[NAME] = redirect(target)
    with pytest.raises(DownloadError):
        download(remote(hub), path, web, FAST)
    assert len(hub.seen) == (4 if target in ("http://[::1", "https://h:x/") else 1)  # no address: a broken answer


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x.gguf",
        "https://192.168.0.1/x.gguf",
        "https://169.254.169.254/x.gguf",
        "https://[::ffff:127.0.0.1]/x.gguf",
        "https://0.0.0.0/x.gguf",
        "https://100.64.0.1/x.gguf",
    ],
)
def test_addresses_refused_before_anything_leaves(web: Web, url: str) -> None:
    with pytest.raises(DownloadError, match=r"encrypted|private"), web.get(url):
        pytest.fail("answered")


def test_a_name_that_leads_to_a_private_address_is_refused(hub: HubServer) -> None:
    said = r"rebind.example \(127.0.0.1\) is a private address"
    with Web(resolver=lambda *_: ["127.0.0.1"]) as web, pytest.raises(DownloadError, match=said) as caught:
        web.get(f"https://rebind.example:{hub.port}/x").__enter__()
    assert "LOCALLLM_ALLOW_HOSTS=rebind.example" in str(caught.value.hint)
    assert hub.seen == []


def test_an_allowed_host_may_be_private_and_plain(hub: HubServer, path: Path) -> None:
    with Web(allow_hosts=frozenset({"nas.example"}), resolver=lambda *_: ["127.0.0.1"]) as web:
        download(remote(hub, url=f"http://nas.example:{hub.port}{NAME}"), path, web, FAST)
    assert path.read_bytes() == DATA
    assert hub.seen[0].headers["host"] == f"nas.example:{hub.port}"


def test_an_address_that_does_not_answer_is_passed_over(hub: HubServer, path: Path) -> None:
    allow = frozenset({"two.example"})
    with Web(allow_hosts=allow, connect_s=0.5, resolver=lambda *_: ["127.0.0.2", "127.0.0.1"]) as web:
        download(remote(hub, url=f"http://two.example:{hub.port}{NAME}"), path, web, FAST)
    assert path.read_bytes() == DATA


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_is_checked_against_the_name_not_the_address(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tls.example"]
    made += ["-addext", "subjectAltName=DNS:tls.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with running_hub(tls=(certificate, key)) as hub:
        hub.add(NAME, DATA)
        names = frozenset({"tls.example", "other.example"})
        with Web(allow_hosts=names, resolver=lambda *_: ["127.0.0.1"]) as web:
            download(remote(hub, url=f"https://tls.example:{hub.port}{NAME}"), path, web, FAST)
            assert path.read_bytes() == DATA
            with pytest.raises(DownloadError, match="certificate"):
                download(remote(hub, url=f"https://other.example:{hub.port}{NAME}"), path, web, FAST)
    assert {seen.headers["host"] for seen in hub.seen} == {f"tls.example:{hub.port}"}


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("198.18.0.7", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("ff02::1", False),
        ("localhost", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    ("found", "tried"),
    [
        (["8.8.8.8", "8.8.4.4", "2606:4700::1"], ["8.8.8.8", "2606:4700::1"]),
        (["8.8.8.8", "8.8.4.4", "1.1.1.1"], ["8.8.8.8", "8.8.4.4"]),
        (["10.0.0.1", "8.8.8.8"], ["8.8.8.8"]),
        (["2606:4700::1"], ["2606:4700::1"]),
        ([], []),
    ],
)
def test_two_addresses_are_tried_at_most(found: list[str], tried: list[str]) -> None:
    assert addresses(origin_of("https://h.example/x"), trusted=False, resolver=lambda *_: found) == tried


def test_an_unknown_host_fails_at_once(path: Path, hub: HubServer) -> None:
    def unknown(host: str, _: int) -> list[str]:
        calls.append(host)
        raise OSError(-2, "Name or service not known")

    calls: list[str] = []
    with Web(resolver=unknown) as web, pytest.raises(DownloadError, match="cannot be found"):
        download(remote(hub, url="https://hub.example/x.gguf"), path, web, FAST)
    assert calls == ["hub.example"]


def test_nobody_listening_fails_at_once(path: Path, web: Web) -> None:
    with running_hub() as gone:
        file = remote(gone)
    with pytest.raises(DownloadError, match="cannot be reached"):
        download(file, path, web, FAST)


def test_a_proxy_of_the_environment_is_used(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    hub.answers["/x.gguf"] = lambda request: request.send(200, b"through")
    allow = frozenset({"far.example"})
    with Web(allow_hosts=allow) as web, web.get("http://far.example/x.gguf") as reply:
        assert reply.read(100) == b"through"
    assert hub.seen[0].headers["host"] == "far.example"
    monkeypatch.setenv("no_proxy", "far.example")
    with Web(allow_hosts=allow, resolver=lambda *_: []) as web, pytest.raises(LinkError, match="no address"):
        web.get("http://far.example/x.gguf").__enter__()
