CREATE TABLE accounts (
	id INTEGER NOT NULL,
	provider TEXT NOT NULL,
	name TEXT NOT NULL,
	origin TEXT,
	token_hash TEXT,
	cap INTEGER DEFAULT '4' NOT NULL,
	empty_ms BIGINT,
	frozen_until_ms BIGINT DEFAULT '0' NOT NULL,
	paused BOOLEAN DEFAULT false NOT NULL,
	rate_per_s FLOAT,
	auto_max INTEGER,
	adapting TEXT,
	CONSTRAINT pk_accounts PRIMARY KEY (id),
	CONSTRAINT uq_accounts_provider_name UNIQUE (provider, name)
);
CREATE TABLE events (
	id INTEGER NOT NULL,
	job_id BIGINT,
	attempt_id TEXT,
	worker_id TEXT,
	at_ms BIGINT NOT NULL,
	kind TEXT NOT NULL,
	data TEXT,
	CONSTRAINT pk_events PRIMARY KEY (id)
);
CREATE INDEX ix_events_job_id ON events (job_id);
CREATE TABLE job_database (
	id TEXT NOT NULL,
	stepped_back TEXT,
	stamp TEXT DEFAULT '' NOT NULL,
	new_stamp TEXT,
	quiet_until_ms BIGINT,
	moved_to TEXT,
	copying TEXT,
	CONSTRAINT pk_job_database PRIMARY KEY (id)
);
CREATE TABLE job_keys (
	"key" TEXT NOT NULL,
	job_id BIGINT NOT NULL,
	CONSTRAINT pk_job_keys PRIMARY KEY ("key")
)
 WITHOUT ROWID;
CREATE TABLE probes (
	url_hash TEXT NOT NULL,
	seen_ms BIGINT NOT NULL,
	problem TEXT,
	said TEXT,
	http_status INTEGER,
	content_type TEXT,
	size_bytes BIGINT,
	width INTEGER,
	height INTEGER,
	CONSTRAINT pk_probes PRIMARY KEY (url_hash)
);
CREATE TABLE sessions (
	id TEXT NOT NULL,
	worker_id TEXT NOT NULL,
	command TEXT NOT NULL,
	started_ms BIGINT NOT NULL,
	ended_ms BIGINT,
	exit_code INTEGER,
	reasons TEXT,
	CONSTRAINT pk_sessions PRIMARY KEY (id)
);
CREATE TABLE workers (
	id TEXT NOT NULL,
	host TEXT NOT NULL,
	pid INTEGER NOT NULL,
	version TEXT NOT NULL,
	state TEXT NOT NULL,
	started_ms BIGINT NOT NULL,
	seen_ms BIGINT NOT NULL,
	expires_ms BIGINT NOT NULL,
	mark TEXT,
	CONSTRAINT pk_workers PRIMARY KEY (id)
);
CREATE TABLE batches (
	id INTEGER NOT NULL,
	name TEXT NOT NULL,
	account_id INTEGER NOT NULL,
	model TEXT NOT NULL,
	source TEXT NOT NULL,
	columns TEXT NOT NULL,
	schemas TEXT NOT NULL,
	output_dir TEXT NOT NULL,
	name_template TEXT NOT NULL,
	budget_micros BIGINT,
	created_ms BIGINT NOT NULL,
	updated_ms BIGINT NOT NULL,
	uploads TEXT,
	CONSTRAINT pk_batches PRIMARY KEY (id),
	CONSTRAINT uq_batches_name UNIQUE (name),
	CONSTRAINT fk_batches_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
);
CREATE TABLE prices (
	account_id INTEGER NOT NULL,
	model TEXT NOT NULL,
	unit_micros BIGINT NOT NULL,
	unit TEXT NOT NULL,
	seen_ms BIGINT NOT NULL,
	CONSTRAINT pk_prices PRIMARY KEY (account_id, model),
	CONSTRAINT fk_prices_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
);
CREATE TABLE counters (
	batch_id INTEGER NOT NULL,
	state TEXT NOT NULL,
	jobs BIGINT NOT NULL,
	CONSTRAINT pk_counters PRIMARY KEY (batch_id, state),
	CONSTRAINT fk_counters_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
CREATE TABLE imports (
	id TEXT NOT NULL,
	batch_id INTEGER NOT NULL,
	batch_is_new BOOLEAN NOT NULL,
	after_job_id BIGINT NOT NULL,
	started_ms BIGINT NOT NULL,
	CONSTRAINT pk_imports PRIMARY KEY (id),
	CONSTRAINT fk_imports_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
CREATE TABLE jobs (
	id INTEGER NOT NULL,
	batch_id INTEGER NOT NULL,
	"key" TEXT NOT NULL,
	row_id TEXT NOT NULL,
	has_id BOOLEAN NOT NULL,
	variant_kind TEXT NOT NULL,
	variant TEXT NOT NULL,
	position BIGINT NOT NULL,
	version INTEGER DEFAULT '1' NOT NULL,
	model TEXT NOT NULL,
	inputs TEXT NOT NULL,
	input_hash TEXT NOT NULL,
	cells TEXT NOT NULL,
	seed BIGINT,
	name TEXT NOT NULL,
	name_folded TEXT NOT NULL,
	priority INTEGER DEFAULT '0' NOT NULL,
	not_before_ms BIGINT DEFAULT '0' NOT NULL,
	est_micros BIGINT,
	state TEXT NOT NULL,
	owner TEXT,
	epoch BIGINT DEFAULT '0' NOT NULL,
	lease_ms BIGINT,
	attempt_id TEXT,
	retries_used INTEGER DEFAULT '0' NOT NULL,
	remote_state TEXT,
	queue_position INTEGER,
	urls TEXT,
	files TEXT,
	error_class TEXT,
	error TEXT,
	updated_ms BIGINT NOT NULL,
	finished_ms BIGINT,
	settings TEXT,
	policy_retries_used INTEGER DEFAULT '0' NOT NULL,
	unfit BOOLEAN DEFAULT false NOT NULL,
	CONSTRAINT pk_jobs PRIMARY KEY (id),
	CONSTRAINT uq_jobs_batch_id_row_id_variant_kind_variant UNIQUE (batch_id, row_id, variant_kind, variant),
	CONSTRAINT ck_jobs_state CHECK (state IN ('pending', 'submitting', 'running', 'downloading', 'succeeded', 'failed', 'cancelled', 'in_doubt', 'expired')),
	CONSTRAINT fk_jobs_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
CREATE INDEX ix_jobs_in_doubt ON jobs (id) WHERE state = 'in_doubt';
CREATE INDEX ix_jobs_lost ON jobs (batch_id, state, error_class) WHERE (state = 'cancelled' OR state = 'expired' OR state = 'failed');
CREATE INDEX ix_jobs_name ON jobs (name_folded);
CREATE INDEX ix_jobs_owned ON jobs (owner, id) WHERE (state = 'downloading' OR state = 'running' OR state = 'submitting');
CREATE INDEX ix_jobs_paid_inputs ON jobs (input_hash) WHERE state <> 'cancelled' AND state <> 'failed' AND state <> 'pending';
CREATE INDEX ix_jobs_pending ON jobs (priority, not_before_ms, id) WHERE state = 'pending';
CREATE INDEX ix_jobs_position ON jobs (batch_id, position);
CREATE TABLE spending (
	account_id INTEGER NOT NULL,
	batch_id INTEGER NOT NULL,
	worker_id TEXT NOT NULL,
	spent_micros BIGINT NOT NULL,
	CONSTRAINT pk_spending PRIMARY KEY (account_id, batch_id, worker_id),
	CONSTRAINT fk_spending_account_id FOREIGN KEY(account_id) REFERENCES accounts (id),
	CONSTRAINT fk_spending_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
CREATE TABLE attempts (
	id TEXT NOT NULL,
	job_id INTEGER NOT NULL,
	no INTEGER NOT NULL,
	job_version INTEGER NOT NULL,
	account_id INTEGER NOT NULL,
	batch_id INTEGER NOT NULL,
	worker_id TEXT NOT NULL,
	model TEXT NOT NULL,
	inputs TEXT NOT NULL,
	input_hash TEXT NOT NULL,
	state TEXT NOT NULL,
	extra BOOLEAN DEFAULT false NOT NULL,
	request_id TEXT,
	est_micros BIGINT DEFAULT '0' NOT NULL,
	cost_micros BIGINT,
	charged_micros BIGINT,
	intent_ms BIGINT NOT NULL,
	accepted_ms BIGINT,
	started_ms BIGINT,
	closed_ms BIGINT,
	run_ms BIGINT,
	slot_until_ms BIGINT,
	http_status INTEGER,
	error_class TEXT,
	error_code TEXT,
	error TEXT,
	resolution TEXT,
	submit_raw TEXT,
	status_raw TEXT,
	result_raw TEXT,
	settings TEXT,
	cancel_ms BIGINT,
	CONSTRAINT pk_attempts PRIMARY KEY (id),
	CONSTRAINT uq_attempts_job_id_no UNIQUE (job_id, no),
	CONSTRAINT uq_attempts_account_id_request_id UNIQUE (account_id, request_id),
	CONSTRAINT ck_attempts_state CHECK (state IN ('intent', 'accepted', 'succeeded', 'failed', 'cancelled', 'rejected', 'in_doubt', 'abandoned')),
	CONSTRAINT fk_attempts_job_id FOREIGN KEY(job_id) REFERENCES jobs (id),
	CONSTRAINT fk_attempts_account_id FOREIGN KEY(account_id) REFERENCES accounts (id),
	CONSTRAINT fk_attempts_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
CREATE INDEX ix_attempts_closed ON attempts (account_id, model, id) WHERE state IN ('succeeded', 'failed');
CREATE INDEX ix_attempts_live ON attempts (account_id, batch_id) WHERE (state = 'accepted' OR state = 'in_doubt' OR state = 'intent');
CREATE UNIQUE INDEX ix_attempts_one_live ON attempts (job_id) WHERE (state = 'accepted' OR state = 'in_doubt' OR state = 'intent') AND NOT extra;
