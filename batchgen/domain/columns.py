"""The columns that batchgen adds to the user's own: what an export writes, a manifest ignores."""

RESULT_KEY = "result_key"
"""The column that tells an export from any other table, and a row's job from any other."""

RESULT_COLUMNS = (
    RESULT_KEY,
    "result_state",
    "result_model",
    "result_seed",
    "result_attempts",
    "result_request_id",
    "result_url",
    "result_file",
    "result_sha256",
    "result_bytes",
    "result_cost_usd",
    "result_error_class",
    "result_error",
    "result_submitted_at",
    "result_finished_at",
    "result_queue_s",
    "result_run_s",
    "result_batch",
)
"""In the order in which they are written, after the user's own (spec section 7)."""
