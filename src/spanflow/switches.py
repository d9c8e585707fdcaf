"""Tells whether capture is wanted in this process, before anything heavy is imported.

It looks at the switches alone and reads no other setting: whoever asks it may find that nothing of
ours is to be loaded.
"""

from __future__ import annotations

import os
from importlib import import_module

from opentelemetry import trace

__all__ = ["CONFIG_FILE", "off_by_variable", "sdk_disabled", "wanted"]

CONFIG_FILE = "OTEL_CONFIG_FILE"
"""Names OpenTelemetry's declarative configuration, which then replaces its other variables."""
_NO = {"false", "0", "no", "off", "f", "n"}


def wanted(given: object = None) -> bool:
    """Return whether capture is wanted.

    Args:
        given: What code says of it; None leaves it to ``SPANFLOW_ENABLED``.
    """
    if sdk_disabled():
        return False
    return bool(given) if given is not None else not _said_no()


def off_by_variable() -> bool:
    """Return whether a variable switches everything of ours off, whatever a file says."""
    return _sdk_off() or _said_no()


def sdk_disabled() -> bool:
    """Return whether OpenTelemetry is switched off, by its variable or in its file."""
    if _sdk_off():
        return True
    file = os.environ.get(CONFIG_FILE)
    if not file or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return False
    # A file that says so leaves no provider behind; so does one that says nothing of traces.
    try:
        return bool(import_module("opentelemetry.configuration").load_config_file(file).disabled)
    except Exception:  # noqa: BLE001 - OpenTelemetry itself tells what is wrong with its file
        return False


def _sdk_off() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _said_no() -> bool:
    return os.environ.get("SPANFLOW_ENABLED", "true").strip().lower() in _NO
