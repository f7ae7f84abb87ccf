"""An update of a function that loses nothing, as in AWS: what runs ends on the old code, what is waiting runs on the new one.

LocalStack (4.13) ends running invocations when a function's code or configuration changes, removes the code below
them, drops their logs, and loses asynchronous events: for two seconds the old version's poller goes on to take them from the queue and
drops them. ``ProcessExecutor.stop`` waits for running invocations; ``install`` does the rest, and lets as many events of
a function be handled at once as there may be workers (LocalStack: four more than there are processors).
"""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from localstack.services.lambda_.invocation import event_manager, lambda_service, version_manager
from localstack.services.lambda_.invocation.models import lambda_stores
from localstack.utils.patch import patch

from .executor import wait_until_unused

LOG = logging.getLogger(__name__)
EVENTS_AT_ONCE = 100
LONG_POLL_S = 2


def install() -> None:
    patch(event_manager.Poller.__init__)(_with_many_threads)
    patch(event_manager.Poller.run)(_poll)
    patch(lambda_service.destroy_code_if_not_used)(_destroy_code_later)
    patch(version_manager.LambdaVersionManager.stop)(_stop_but_go_on_to_log)


def _with_many_threads(target, self, version_manager, event_queue_url):
    target(self, version_manager, event_queue_url)
    self.invoker_pool.shutdown(wait=False)
    name = version_manager.function_version.id.function_name
    self.invoker_pool = ThreadPoolExecutor(EVENTS_AT_ONCE, thread_name_prefix=f"lambda-invoker-{name}")


def _poll(target, self, *args, **kwargs):
    """As LocalStack's, except that what came too late is given back to the queue, for the new version's poller."""
    version = self.version_manager.function_version
    sqs = event_manager.get_sqs_client(version, client_config=event_manager.CLIENT_CONFIG)
    while not self._shutdown_event.is_set():
        try:
            answer = sqs.receive_message(
                QueueUrl=self.event_queue_url,
                WaitTimeSeconds=LONG_POLL_S,
                MaxNumberOfMessages=10,
                VisibilityTimeout=version.config.timeout + 60,
            )
            for message in answer.get("Messages") or []:
                _handle_or_give_back(self, sqs, message)
            if not _is_current(version):
                self._shutdown_event.wait(0.5)  # what was given back is for another
        except Exception as error:
            LOG.error("Cannot poll events of %s: %s", version.qualified_arn, error)
            time.sleep(1)


def _is_current(version) -> bool:
    """Whether no update has begun; its new version is there a little later than it is in the store."""
    function = lambda_stores[version.id.account][version.id.region].functions.get(version.id.function_name)
    stored = function and function.versions.get(version.id.qualifier)
    return stored is None or stored.config.last_modified == version.config.last_modified


def _handle_or_give_back(self, sqs, message):
    if not self._shutdown_event.is_set() and _is_current(self.version_manager.function_version):
        with suppress(RuntimeError):  # the pool was shut down in between
            return self.invoker_pool.submit(self.handle_message, message)
    sqs.send_message(QueueUrl=self.event_queue_url, MessageBody=message["Body"])
    return sqs.delete_message(QueueUrl=self.event_queue_url, ReceiptHandle=message["ReceiptHandle"])


def _stop_but_go_on_to_log(target, self):
    stop_logging = self.log_handler.stop
    self.log_handler.stop = lambda: None
    target(self)

    def stop_later():
        wait_until_unused(self.function_version.config.code.get_unzipped_code_location())
        time.sleep(1)  # an invocation's log is stored after it has ended
        stop_logging()

    threading.Thread(target=stop_later, daemon=True).start()


def _destroy_code_later(target, code, function):
    def destroy():
        wait_until_unused(code.get_unzipped_code_location())
        target(code, function)

    threading.Thread(target=destroy, daemon=True).start()
