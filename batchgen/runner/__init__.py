"""The worker loop: claim, submit, poll, download."""
