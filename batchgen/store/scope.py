"""Which jobs a session is about."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scope:
    """Which pending jobs a session may pay for; fixed when the user consents.

    Attributes:
        batch_ids: The batches, None for all of the account.
        max_job_id: Jobs stored later are not in it.
        excluded: Pending jobs of those batches that are not: gone from the manifest.
        outside: All jobs of those batches that the session is not judged by.
        only: All jobs that it is about, where they were selected; else None. Nothing is
            excluded or outside beside it.
    """

    batch_ids: tuple[int, ...] | None
    max_job_id: int
    excluded: frozenset[int] = frozenset()
    outside: frozenset[int] = frozenset()
    only: frozenset[int] | None = None

    def judges(self, job_id: int) -> bool:
        """Return whether the session is judged by a job of its batches."""
        return job_id not in self.outside if self.only is None else job_id in self.only
