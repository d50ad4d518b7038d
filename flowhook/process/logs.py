"""Structured logging: events with fields, one line each, on stderr; JSON for machines, columns for a terminal.

Normal operation logs only the lifecycle. Bodies, header values and secrets must never be passed to a logger; `redact`
is the last line of defence against mistakes. Records of libraries (asyncio, grpc, tornado) pass through the same
processors, from level info on: their debug records contain credentials.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

from flowhook.errors import InvalidError

# structlog would import it to draw tracebacks; ours are plain text, and that saves 4 MiB and 40 ms per process. An
# entry of None makes imports fail (https://docs.python.org/3/reference/import.html#the-module-cache).
_RICH: Final[Any] = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
try:
    import structlog
finally:
    if _RICH is None:
        del sys.modules["rich"]

REDACTED: Final = "[redacted]"
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS: Final = ("auto", "json", "console")

# packages whose records of level debug are logged when the level is debug
_OURS: Final = frozenset({"admin", "cli", "edge", "flowhook", "operations", "router", "runner"})
_SENSITIVE_KEY: Final = re.compile(
    r"token|password|passwd|secret_value|authorization|cookie|credential|signature|api_?key|private_?key|body|headers?$",
    re.IGNORECASE,
)
_SENSITIVE_TEXT: Final = re.compile(
    r"fhk_[A-Za-z0-9_-]{8,}"  # tokens of Flowhook
    r"|(?i:\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{4,})"  # an Authorization value
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"  # user:password in a URL
)


def configure(
    *, level: str = "info", log_format: str = "auto", process: str = "", stream: TextIO | None = None
) -> None:
    """Set up logging for this process; the last call wins.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        log_format: `json`, `console`, or `auto`: console when `stream` is a terminal.
        process: name of the process, added to each line as `process`; empty: none.
        stream: destination of the lines; stderr when absent.

    Raises:
        InvalidError: unknown level or format (`LOG_SETTING_INVALID`).
    """
    if level not in LEVELS:
        raise InvalidError(f"log level is one of {', '.join(LEVELS)}, not {level!r}", reason="LOG_SETTING_INVALID")
    if log_format not in FORMATS:
        expected = ", ".join(FORMATS)
        raise InvalidError(f"log format is one of {expected}, not {log_format!r}", reason="LOG_SETTING_INVALID")
    target = stream or sys.stderr

    def name_process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if process:
            event.setdefault("process", process)
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=target.isatty(), pad_event_to=0)
        if is_for_people(log_format, target)
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    formatter = structlog.stdlib.ProcessorFormatter
    last: list[structlog.typing.Processor] = [
        formatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact,
        renderer,
    ]
    handler = logging.StreamHandler(target)
    handler.setFormatter(formatter(processors=last, foreign_pre_chain=shared))
    handler.addFilter(_is_ours_or_no_debugging)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    silence_decoding()
    root.setLevel(LEVELS[level])
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, formatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def silence_decoding() -> None:
    """Have nothing logged about texts that gRPC can't decode; may be called again.

    It logs a traceback and the text for each metadata that is no UTF-8, which a caller without a token can send, and
    for each of its own messages that contains the bytes of an address, as when no file descriptor is left.

    Source: grpc/src/python/grpcio/grpc/_cython/_cygrpc: grpc_string.pyx.pxi and aio/server.pyx.pxi of 1.83.
    """
    for name in ("grpc._cython.cygrpc", "asyncio"):
        logging.getLogger(name).addFilter(_is_not_about_decoding)


def _is_not_about_decoding(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, UnicodeDecodeError):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is None or "_cygrpc" not in trace.tb_frame.f_code.co_filename


def is_for_people(log_format: str = "", stream: TextIO | None = None) -> bool:
    """Whether lines are written for people; see `configure`. Empty: the variable FLOWHOOK_LOG_FORMAT decides."""
    log_format = log_format or os.environ.get("FLOWHOOK_LOG_FORMAT", "")
    return log_format == "console" or (log_format != "json" and (stream or sys.stderr).isatty())


def report_end(
    message: str, *, reason: str = "", process: str = "", log_format: str = "", stream: TextIO | None = None
) -> None:
    """Say why a process can't start or go on: in its log as all else, and on a terminal as a command does.

    It may be called before `configure`, or instead of it. The message says what is wrong and what to do; without a
    format (see `configure`) the variable FLOWHOOK_LOG_FORMAT decides, else `auto`. An unknown one is `auto`.
    """
    target = stream or sys.stderr
    if is_for_people(log_format, target):
        print(f"flowhook: {process}: {message}" if process else f"flowhook: {message}", file=target)
        return
    configure(log_format="json", process=process, stream=target)
    get_logger(__name__).critical("can't run", reason=reason, cause=message)


def _is_ours_or_no_debugging(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG or record.name.partition(".")[0] in _OURS


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module, for `log.info("listening", address=...)`: an event and its fields."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Redact what must never be in a log: values under sensitive keys, bytes, and text that looks like a credential."""
    for key, value in event.items():
        event[key] = _clean(key, value)
    return event


def _clean(key: str, value: Any) -> Any:
    if _SENSITIVE_KEY.search(key) and value not in (None, "", True, False):
        return REDACTED
    if isinstance(value, str):
        return _SENSITIVE_TEXT.sub(REDACTED, value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if isinstance(value, Mapping):
        return {str(name): _clean(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(key, item) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return _SENSITIVE_TEXT.sub(REDACTED, str(value))
