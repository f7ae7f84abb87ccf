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
    """Adds what LocalStack's community edition lacks: response streaming, updates that lose nothing, and those of nested stacks."""
    from localstack import config  # noqa: PLC0415

    if config.LAMBDA_RUNTIME_EXECUTOR == "process":
        from . import cloudformation, streaming, updates  # noqa: PLC0415

        streaming.install()
        updates.install()
        cloudformation.install()


@hooks.on_infra_shutdown()
def end_functions():
    """No function outlives LocalStack, not even one that is busy."""
    from localstack import config  # noqa: PLC0415

    if config.LAMBDA_RUNTIME_EXECUTOR == "process":
        from .executor import end_all  # noqa: PLC0415

        end_all()
