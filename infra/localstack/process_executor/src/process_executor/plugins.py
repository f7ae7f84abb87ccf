"""Entry points that LocalStack's plugin loader picks up.

The imports stand inside the functions on purpose: LocalStack loads this module to list its plugins, long before its
Lambda service can be imported.
"""

from localstack.runtime import hooks
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """Selected with ``LAMBDA_RUNTIME_EXECUTOR=process``."""

    name = "process"

    def load(self, *args, **kwargs):
        from .executor import ProcessExecutor  # noqa: PLC0415

        return ProcessExecutor


@hooks.on_infra_start()
def complete_localstack():
    """Adds what LocalStack's community edition lacks: response streaming, updates of nested stacks."""
    from localstack import config  # noqa: PLC0415

    if config.LAMBDA_RUNTIME_EXECUTOR == "process":
        from . import cloudformation, streaming  # noqa: PLC0415

        streaming.install()
        cloudformation.install()
