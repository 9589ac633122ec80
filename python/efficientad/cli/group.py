"""The group that all commands belong to: what they log, and how their errors end."""

from __future__ import annotations

import logging
from typing import Any

import click


class _LogHandler(logging.Handler):
    """Writes log records as lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        with tqdm.external_write_mode():
            click.echo(f"{prefix}{record.getMessage()}", err=True)


class Commands(click.Group):
    """Turns errors into one sentence on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        logger = logging.getLogger("efficientad")
        handler = _LogHandler()
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            # click's own exceptions, which have exit codes of their own, are RuntimeErrors.
            if isinstance(error, click.exceptions.Exit | click.Abort):
                raise
            raise click.ClickException(str(error) or type(error).__name__) from error
        finally:
            logger.removeHandler(handler)
            logger.propagate = True
