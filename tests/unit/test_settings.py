"""Settings come from the environment, and say what they expect."""

from pathlib import Path

import pytest

from agentflow.errors import ConfigError
from agentflow.settings import ENV, Settings, load


def test_defaults_need_no_environment():
    settings = load({})
    assert settings.port == 8000 and settings.host == "127.0.0.1" and settings.coordinators == 2


def test_every_setting_names_its_variable():
    assert set(ENV) == set(Settings.__dataclass_fields__)
    assert len(set(ENV.values())) == len(ENV)


def test_values_are_parsed_and_lists_split():
    settings = load(
        {
            "AGENTFLOW_DATA_DIR": "/tmp/x",
            "PORT": "9000",
            "AGENTFLOW_EGRESS_ALLOW": "10.0.0.0/8, 127.0.0.1/32",
            "AGENTFLOW_SOURCE_ENV": "MY_KEY,OTHER_KEY",
            "LOG_LEVEL": "debug",
        }
    )
    assert settings.data_dir == Path("/tmp/x") and settings.port == 9000
    assert [str(net) for net in settings.egress_allow] == ["10.0.0.0/8", "127.0.0.1/32"]
    assert settings.source_env == ("MY_KEY", "OTHER_KEY") and settings.log_level == "DEBUG"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("AGENTFLOW_COORDINATORS", "0"),
        ("AGENTFLOW_EGRESS_ALLOW", "10.0.0.0/99"),
        ("AGENTFLOW_LEASE_S", "-1"),
        ("AGENTFLOW_RETENTION", "maybe"),
        ("AGENTFLOW_RETENTION_DAYS_MAX", "0"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_wrong_value_is_refused_with_the_name_of_its_variable(variable, text):
    with pytest.raises(ConfigError, match=variable):
        load({variable: text})


def test_retention_is_on_and_not_capped_unless_told():
    assert (load({}).retention, load({}).retention_days_max) == (True, None)
    told = load({"AGENTFLOW_RETENTION": "OFF", "AGENTFLOW_RETENTION_DAYS_MAX": "30"})
    assert (told.retention, told.retention_days_max) == (False, 30)


def test_lease_shorter_than_two_heartbeats_is_refused():
    with pytest.raises(ConfigError, match="AGENTFLOW_LEASE_S"):
        load({"AGENTFLOW_LEASE_S": "4", "AGENTFLOW_HEARTBEAT_S": "3"})
