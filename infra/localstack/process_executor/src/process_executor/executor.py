"""LocalStack's Lambda runtime executor that starts one local process for each execution environment.

LocalStack creates one executor per concurrent execution, keeps it warm for LAMBDA_KEEPALIVE_MS and reuses it, so a
function under load gets several processes, just as Lambda gives it several sandboxes. A function that is updated or
deleted loses those that are idle at once, and the others when their invocation has ended.

Settings, read from LocalStack's own environment:

``LAMBDA_PROCESS_PYTHON``        the interpreter with the function's dependencies (``awslambdaric`` among them)
``LAMBDA_PROCESS_PYTHON3_13``    the same for one runtime only (``python3.13`` here)
``LAMBDA_PROCESS_EXTRA_ENV``     comma-separated names of variables to hand on to the functions
"""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from functools import cached_property
from pathlib import Path

from localstack import config
from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from .runtime_api import Invocation, RuntimeApi, error_payload
from .streaming_registry import adopt_invocation

LOG = logging.getLogger(__name__)
SHUTDOWN_GRACE_S = 2.0
_live: "weakref.WeakSet[ProcessExecutor]" = weakref.WeakSet()


def wait_until_unused(code_location: Path) -> None:
    """Returns when no invocation runs on this code any more."""
    for executor in [each for each in _live if each.code_location == code_location]:
        executor.idle.wait()


def end_all() -> None:
    """Ends every process, whatever it does; LocalStack itself is about to end."""
    for executor in list(_live):
        executor.end()


class ProcessExecutor(RuntimeExecutor):
    def __init__(self, id: str, function_version: FunctionVersion):
        super().__init__(id, function_version)
        self._home = Path(tempfile.mkdtemp(prefix=f"lambda-{id}-"))
        self._log_path = self._home / "output.log"
        self._env: dict[str, str] = {}
        self._api: RuntimeApi | None = None
        self._process: subprocess.Popen | None = None
        self._log_offset = 0
        self._init_ms: float | None = None
        self._code_time: int | None = None
        self._lock = threading.RLock()
        self._stopped = False
        self.idle = threading.Event()
        self.idle.set()
        _live.add(self)

    # -- life cycle ----------------------------------------------------------------------------------------------

    def start(self, env_vars: dict[str, str]) -> None:
        self._env = {name: str(value) for name, value in env_vars.items()}
        self._spawn()

    def stop(self) -> None:
        """Ends the process; if it serves an invocation, when that has ended or its time is over."""
        if self.idle.is_set():
            self.end(grace=SHUTDOWN_GRACE_S)
        else:
            threading.Thread(target=self._end_when_idle, daemon=True).start()

    def end(self, grace: float = 0.0) -> None:
        with self._lock:
            self._stopped = True
            self._kill(grace)
        shutil.rmtree(self._home, ignore_errors=True)

    def _end_when_idle(self) -> None:
        self.idle.wait()
        self.end(grace=SHUTDOWN_GRACE_S)

    @property
    def code_location(self) -> Path:
        return self._task_root

    def _spawn(self) -> None:
        """Starts the function's process and waits until its runtime polls for an event, or fails to."""
        self._code_changed()
        with self._lock:
            if self._stopped:
                raise StatusErrorException("Stopped during startup", error_payload("Sandbox.Stopped", "stopped"))
            api, began = RuntimeApi(), time.perf_counter()
            env, command = self._environment(api.address), self._command()
            self._log_offset = self._log_path.stat().st_size if self._log_path.exists() else 0
            with self._log_path.open("ab") as log:
                try:
                    process = subprocess.Popen(
                        command,
                        cwd=self._task_root,
                        env=env,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                except OSError as error:
                    api.close()
                    raise StatusErrorException(
                        "Startup failed", error_payload("Runtime.InvalidEntrypoint", str(error))
                    ) from error
            self._api, self._process = api, process
        threading.Thread(target=self._watch, args=(process, api), daemon=True).start()
        api.ready.wait()
        self._init_ms = (time.perf_counter() - began) * 1000
        if api.init_error is not None:
            LOG.warning("%s failed to start:\n%s", self.function_version.qualified_arn, self._new_logs())
            raise StatusErrorException("Environment startup failed", payload=api.init_error)

    @staticmethod
    def _watch(process: subprocess.Popen, api: RuntimeApi) -> None:
        """Turns the end of the process, whatever its cause, into an error for whoever waits for it."""
        code = process.wait()
        reason = f"signal: {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        invocation = api.current
        request_id = invocation.request_id if invocation else ""
        error = error_payload(
            "Runtime.ExitError", f"RequestId: {request_id} Error: Runtime exited with error: {reason}"
        )
        api.fail_start(error)
        if invocation:
            invocation.finish(error=error)
        api.close()

    def _kill(self, grace: float = 0.0) -> None:
        process, self._process = self._process, None
        if self._api:
            self._api.close()
        if process is None:
            return
        for sign, wait_s in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            if wait_s and process.poll() is None:
                try:
                    os.killpg(process.pid, sign)
                    process.wait(wait_s)
                except ProcessLookupError:
                    break
                except subprocess.TimeoutExpired:
                    continue

    def _code_changed(self) -> bool:
        """Whether a function that is deployed from the bucket "hot-reload" (a local directory) has been edited."""
        if not self.function_version.config.code.is_hot_reloading():
            return False
        before, self._code_time = (
            self._code_time,
            max((path.stat().st_mtime_ns for path in self._task_root.rglob("*.py")), default=0),
        )
        return before not in (None, self._code_time)

    # -- what the process sees -----------------------------------------------------------------------------------

    @property
    def _task_root(self) -> Path:
        return Path(self.function_version.config.code.get_unzipped_code_location())

    @cached_property
    def _layer_roots(self) -> list[Path]:
        """The function's layers, unpacked; together they stand for /opt, and later ones hide earlier ones."""
        layers = self.function_version.config.layers or []
        for layer in layers:
            layer.code.prepare_for_execution()
        return [Path(layer.code.get_unzipped_code_location()) for layer in reversed(layers)]

    def _local_path(self, path: str) -> str:
        """Maps a path of the Lambda sandbox to this machine."""
        if path.startswith("/var/task"):
            return str(self._task_root) + path.removeprefix("/var/task")
        if path.startswith("/opt"):
            candidates = [str(root) + path.removeprefix("/opt") for root in self._layer_roots]
            return next(filter(os.path.exists, candidates), path)
        return path

    def _python(self) -> str:
        runtime = self.function_version.config.runtime or ""
        specific = "LAMBDA_PROCESS_" + re.sub(r"\W", "_", runtime).upper()
        return os.environ.get(specific) or os.environ.get("LAMBDA_PROCESS_PYTHON") or sys.executable

    def _environment(self, api_address: str) -> dict[str, str]:
        root, runtime = self._task_root, self.function_version.config.runtime or ""
        search_path = [str(root)]
        for layer in self._layer_roots:
            search_path += [str(layer / "python"), str(layer / "python/lib" / runtime / "site-packages")]
        if own := self._env.get("PYTHONPATH"):
            search_path.insert(0, ":".join(self._local_path(part) for part in own.split(":")))
        handed_on = filter(None, os.environ.get("LAMBDA_PROCESS_EXTRA_ENV", "").split(","))
        return {
            "PATH": f"{Path(self._python()).parent}:{os.environ.get('PATH', '')}",
            "LANG": "en_US.UTF-8",
            **{name: os.environ[name] for name in handed_on if name in os.environ},
            # an edit within the second of the last one would otherwise meet a stale .pyc
            **({"PYTHONDONTWRITEBYTECODE": "1"} if self.function_version.config.code.is_hot_reloading() else {}),
            **self._env,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}",
            "AWS_LAMBDA_RUNTIME_API": api_address,
            "LAMBDA_TASK_ROOT": str(root),
            "LAMBDA_RUNTIME_DIR": str(root),
            "PYTHONPATH": ":".join(search_path),
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
        }

    def _command(self) -> list[str]:
        """The managed runtime's start command, or what replaces it (exec wrapper, custom runtime)."""
        if (self.function_version.config.runtime or "").startswith("provided"):
            return [str(self._task_root / "bootstrap")]
        command = [self._python(), "-m", "awslambdaric", self._env.get("_HANDLER", "")]
        if wrapper := self._env.get("AWS_LAMBDA_EXEC_WRAPPER"):
            return [self._local_path(wrapper), *command]
        return command

    # -- invocations ---------------------------------------------------------------------------------------------

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        self.idle.clear()
        try:
            return self._invoke(payload)
        finally:
            self.idle.set()

    def _invoke(self, payload: dict[str, str]) -> InvocationResult:
        request_id, settings = payload["invoke-id"], self.function_version.config
        if self._code_changed():
            with self._lock:
                self._kill(grace=SHUTDOWN_GRACE_S)
        if self._process is None or self._process.poll() is not None:
            try:
                self._spawn()  # the last invocation timed out or ended the process, or the code is new
            except StatusErrorException as failure:
                return InvocationResult(request_id, failure.payload, is_error=True, logs=self._new_logs())
        invocation = adopt_invocation(request_id) or Invocation(request_id, b"", 0)
        invocation.payload = payload["payload"].encode()
        invocation.timeout_s = settings.timeout
        invocation.function_arn = payload["invoked-function-arn"]
        invocation.trace_id = payload.get("trace-id", "")
        began = time.time()
        self._api.submit(invocation)
        if not invocation.done.wait(settings.timeout):
            message = f"RequestId: {request_id} Error: Task timed out after {settings.timeout:.2f} seconds"
            invocation.finish(error=error_payload("Sandbox.Timedout", message))
            self._append_log(f"{self._timestamp()} {request_id} Task timed out after {settings.timeout:.2f} seconds\n")
            with self._lock:
                self._kill()
        elapsed_ms = (time.time() - began) * 1000
        logs = self._framed_logs(request_id, elapsed_ms)
        body = invocation.error if invocation.error is not None else bytes(invocation.body)
        return InvocationResult(request_id, body, is_error=invocation.error is not None, logs=logs)

    # -- logs ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _timestamp() -> str:
        now = time.time()
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"

    def _append_log(self, line: str) -> None:
        with self._log_path.open("ab") as log:
            log.write(line.encode())

    def _new_logs(self) -> str:
        """What the process has written since the last call."""
        if not self._log_path.exists():
            return ""
        with self._log_path.open("rb") as log:
            log.seek(self._log_offset)
            written = log.read()
        self._log_offset += len(written)
        return written.decode(errors="replace")

    def _framed_logs(self, request_id: str, elapsed_ms: float) -> str:
        version, memory = self.function_version.id.qualifier, self.function_version.config.memory_size
        cold, self._init_ms = self._init_ms, None
        init = f"\tInit Duration: {cold:.2f} ms" if cold is not None else ""
        written = self._new_logs()
        if written and not written.endswith("\n"):
            written += "\n"
        return (
            f"START RequestId: {request_id} Version: {version}\n{written}END RequestId: {request_id}\n"
            f"REPORT RequestId: {request_id}\tDuration: {elapsed_ms:.2f} ms\tBilled Duration: {int(elapsed_ms) + 1} ms"
            f"\tMemory Size: {memory} MB{init}\n"
        )

    def get_logs(self) -> str:
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    # -- the rest of the interface -------------------------------------------------------------------------------

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        return f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}/_localstack_lambda/{self.id}"

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        pass

    @classmethod
    def validate_environment(cls) -> bool:
        return True
