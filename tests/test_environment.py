"""Deployment facts and secrets come from `BATCHGAUGE_…` variables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from jobs.environment import alerts_token, read
from jobs.scheduler import Settings
from monitoring.state import Destination
from pipelines.errors import SpecError


def test_a_misspelt_variable_is_refused_with_the_nearest_one() -> None:
    """A typo would otherwise push nowhere in silence."""
    with pytest.raises(SpecError, match=r"BATCHGAUGE_GATWAY: unknown; did you mean BATCHGAUGE_GATEWAY\?"):
        read({"BATCHGAUGE_GATWAY": "http://gw"})


def test_a_ledger_in_postgresql_has_a_folder_of_this_host(tmp_path: Path) -> None:
    """Named, or the user's own; one in a file has its own, and wants no other. Its password is in no `repr`."""
    url = "postgresql://me:hunter2@host/db"
    environment = read({"BATCHGAUGE_LEDGER": url, "BATCHGAUGE_STATE": str(tmp_path)})
    assert (environment.ledger, environment.ledger_file, environment.folder) == (url, None, tmp_path)
    assert read({"BATCHGAUGE_LEDGER": url}).folder.name == "batchgauge"
    assert "hunter2" not in repr(environment)
    assert read({"BATCHGAUGE_LEDGER": str(tmp_path / "l.db")}).folder == tmp_path
    with pytest.raises(SpecError, match="BATCHGAUGE_STATE: goes with a ledger in PostgreSQL"):
        read({"BATCHGAUGE_LEDGER": str(tmp_path / "l.db"), "BATCHGAUGE_STATE": str(tmp_path)})


def test_secrets_come_from_a_variable_or_a_file(tmp_path: Path) -> None:
    """Not from both, and not from an empty or missing file."""
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    by_file = read({"BATCHGAUGE_USERNAME": "me", "BATCHGAUGE_PASSWORD_FILE": str(file)})
    assert by_file.credentials == read({"BATCHGAUGE_USERNAME": "me", "BATCHGAUGE_PASSWORD": "hunter2"}).credentials
    with pytest.raises(SpecError, match="not both"):
        read({"BATCHGAUGE_PASSWORD": "x", "BATCHGAUGE_PASSWORD_FILE": str(file)})
    with pytest.raises(SpecError, match=r"can't read .*absent"):
        read({"BATCHGAUGE_BEARER_TOKEN_FILE": str(tmp_path / "absent")})
    file.write_text("\n")
    with pytest.raises(SpecError, match="is empty"):
        read({"BATCHGAUGE_BEARER_TOKEN_FILE": str(file)})


@pytest.mark.parametrize(
    "variables",
    [
        {"BATCHGAUGE_USERNAME": "me"},
        {"BATCHGAUGE_PASSWORD": "hunter2"},
        {"BATCHGAUGE_USERNAME": "me", "BATCHGAUGE_PASSWORD": "hunter2", "BATCHGAUGE_BEARER_TOKEN": "hunter2"},
        {"BATCHGAUGE_USERNAME": "a:b", "BATCHGAUGE_PASSWORD": "hunter2"},
        {"BATCHGAUGE_BEARER_TOKEN": "hunter2 and more"},
    ],
)
def test_a_login_that_cannot_be_is_refused_without_repeating_the_secret(variables: dict[str, str]) -> None:
    """The message names variables only."""
    with pytest.raises(SpecError) as caught:
        read(variables)
    assert "hunter2" not in str(caught.value)


def test_a_gateway_with_a_password_in_it_is_refused_unseen() -> None:
    """Or it would be recorded in the ledger and shown by `status`."""
    with pytest.raises(SpecError, match=r"BATCHGAUGE_GATEWAY: .*BATCHGAUGE_PASSWORD_FILE") as caught:
        read({"BATCHGAUGE_GATEWAY": "http://me:hunter2@gw:9091"})
    assert "hunter2" not in str(caught.value)


def test_no_secret_is_in_a_repr() -> None:
    """An environment may end up in a traceback."""
    environment = read({"BATCHGAUGE_USERNAME": "me", "BATCHGAUGE_PASSWORD": "hunter2"})
    settings = Settings(paths=(), environment=environment, max_running=1, alerts_token="hunter2")  # noqa: S106  of this test
    assert "hunter2" not in repr(settings)


def test_the_token_for_alerts_concerns_the_scheduler_alone(tmp_path: Path) -> None:
    """A run, or who looks, need not be able to read it, nor know whether it is a good one."""
    file = tmp_path / "token"
    variables = {"BATCHGAUGE_ALERTS_TOKEN_FILE": str(file)}
    read(variables)
    read({"BATCHGAUGE_ALERTS_TOKEN": "hunter2"})
    with pytest.raises(SpecError, match=r"BATCHGAUGE_ALERTS_TOKEN_FILE: can't read"):
        alerts_token(variables)
    file.write_text("0123456789abcdef\n")
    assert alerts_token(variables) == "0123456789abcdef"
    assert alerts_token({}) is None


def test_a_token_that_can_be_guessed_is_refused_unseen() -> None:
    """Whoever has it may have models trained."""
    with pytest.raises(SpecError, match=r"ALERTS_TOKEN has 7 characters.* give at least 16") as caught:
        alerts_token({"BATCHGAUGE_ALERTS_TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_other_variables_are_none_of_our_business() -> None:
    """Only our prefix is looked at; the ledger has a default."""
    assert read({"HOME": "/root"}).ledger.endswith("batchgauge/ledger.db")


GATEWAYS = tuple(f"http://gw-{number}:9091" for number in range(3))


def chosen(job: str, gateways: tuple[str, ...]) -> str | None:
    return read({"BATCHGAUGE_GATEWAY": ", ".join(gateways)}).redirected(job, Destination("http://other:1")).gateway


def test_of_several_gateways_each_job_has_one() -> None:
    """The same on every host, in whatever order they are listed; each gets its share, and one more takes from all a little."""
    jobs = [f"job {number}" for number in range(300)]
    places = {job: chosen(job, GATEWAYS) for job in jobs}
    assert places == {job: chosen(job, GATEWAYS[::-1]) for job in jobs}
    shares = Counter(places.values())
    assert set(shares) == set(GATEWAYS)
    assert min(shares.values()) > 60
    more = {job: chosen(job, (*GATEWAYS, "http://gw-3:9091")) for job in jobs}
    assert {more[job] for job in jobs if more[job] != places[job]} == {"http://gw-3:9091"}


def test_each_of_several_gateways_is_checked() -> None:
    """A comma too many would be a gateway that nobody has named."""
    for text in ("http://gw:9091,", "http://gw:9091,gw-2:9091", "http://gw:9091,http://me:hunter2@gw-2:9091"):
        with pytest.raises(SpecError, match="BATCHGAUGE_GATEWAY") as caught:
            read({"BATCHGAUGE_GATEWAY": text})
        assert "hunter2" not in str(caught.value)
