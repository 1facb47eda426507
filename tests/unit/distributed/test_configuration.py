"""The configuration that ships under cluster/ says what the code says."""

from __future__ import annotations

from pathlib import Path

import yaml

CLUSTER = Path(__file__).parents[3] / "cluster"


def test_serve_yaml_names_the_application_and_its_deployment():
    from ray.serve.schema import ServeDeploySchema

    import serve_app

    config = ServeDeploySchema.model_validate(yaml.safe_load((CLUSTER / "serve.yaml").read_text()))
    (application,) = config.applications
    module, _, attribute = application.import_path.partition(":")
    assert getattr(__import__(module), attribute) is serve_app.app
    assert [deployment.name for deployment in application.deployments] == [serve_app.Api.name]


def test_prometheus_scrapes_the_metrics_route_with_a_key():
    config = yaml.safe_load((CLUSTER / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    assert job["authorization"] == {
        "type": "Bearer",
        "credentials_file": "/etc/prometheus/agentflow-api-key",
    }
