"""The entry point: how commands end."""

import sys

import pytest

from onmodel.cli import main


def test_a_command_that_is_stopped_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("onmodel.release.verify.verify", stopped)
    monkeypatch.setattr(sys, "argv", ["onmodel", "verify", "."])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "onmodel: stopped; run the same command again to go on where it stopped\n"
