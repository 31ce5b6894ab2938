BEGIN TRANSACTION;
CREATE TABLE accounts (
	id INTEGER NOT NULL, 
	provider TEXT NOT NULL, 
	name TEXT NOT NULL, 
	origin TEXT, 
	token_hash TEXT, 
	cap INTEGER DEFAULT '4' NOT NULL, 
	empty_ms BIGINT, 
	frozen_until_ms BIGINT DEFAULT '0' NOT NULL, 
	paused BOOLEAN DEFAULT false NOT NULL, rate_per_s FLOAT, auto_max INTEGER, adapting TEXT, 
	CONSTRAINT pk_accounts PRIMARY KEY (id), 
	CONSTRAINT uq_accounts_provider_name UNIQUE (provider, name)
);
INSERT INTO "accounts" VALUES(1,'runcomfy','default','https://model-api.runcomfy.net','0000000000000000',20,NULL,0,0,0.5,32,NULL);
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY);
INSERT INTO "alembic_version" VALUES('0007');
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
	result_raw TEXT, settings TEXT, cancel_ms BIGINT, 
	CONSTRAINT pk_attempts PRIMARY KEY (id), 
	CONSTRAINT uq_attempts_job_id_no UNIQUE (job_id, no), 
	CONSTRAINT uq_attempts_account_id_request_id UNIQUE (account_id, request_id), 
	CONSTRAINT ck_attempts_state CHECK (state IN ('intent', 'accepted', 'succeeded', 'failed', 'cancelled', 'rejected', 'in_doubt', 'abandoned')), 
	CONSTRAINT fk_attempts_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT fk_attempts_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_attempts_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
INSERT INTO "attempts" VALUES('a000011',2,1,1,1,1,'w1','runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"submitting","promptImage":"https://images.example.com/a.jpg"}','hash-submitting','intent',0,NULL,250000,NULL,NULL,1000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL);
INSERT INTO "attempts" VALUES('a000012',3,1,1,1,1,'w1','runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"running","promptImage":"https://images.example.com/a.jpg"}','hash-running','accepted',0,'req-a000012',250000,NULL,NULL,1000000,1000000,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL,NULL,'{}',NULL);
INSERT INTO "attempts" VALUES('a000013',4,1,1,1,1,'w1','runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"downloading","promptImage":"https://images.example.com/a.jpg"}','hash-downloading','succeeded',0,'req-a000013',250000,NULL,250000,1000000,1000000,NULL,1000000,30000,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL,'{}','{}',NULL);
INSERT INTO "attempts" VALUES('a000014',5,1,1,1,1,'w1','runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"succeeded","promptImage":"https://images.example.com/a.jpg"}','hash-succeeded','succeeded',0,'req-a000014',250000,NULL,250000,1000000,1000000,NULL,1000000,30000,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL,'{}','{}',NULL);
INSERT INTO "attempts" VALUES('a000015',6,1,1,1,1,'w1','runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"failed","promptImage":"https://images.example.com/a.jpg"}','hash-failed','failed',0,'req-a000015',250000,NULL,250000,1000000,1000000,NULL,1000000,NULL,NULL,NULL,'generation','INTERNAL','it failed',NULL,'{}',NULL,'{}','{}',NULL);
INSERT INTO "attempts" VALUES('a000017',8,1,1,1,1,'w1','runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"in_doubt","promptImage":"https://images.example.com/a.jpg"}','hash-in_doubt','in_doubt',0,NULL,250000,NULL,NULL,1000000,NULL,NULL,NULL,NULL,1600000,NULL,NULL,NULL,'no answer',NULL,NULL,NULL,NULL,'{}',NULL);
INSERT INTO "attempts" VALUES('a000018',9,1,1,1,1,'w1','runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"expired","promptImage":"https://images.example.com/a.jpg"}','hash-expired','succeeded',0,'req-a000018',250000,NULL,250000,1000000,1000000,NULL,1000000,30000,NULL,NULL,NULL,NULL,NULL,NULL,'{}',NULL,'{}','{}',NULL);
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
	updated_ms BIGINT NOT NULL, uploads TEXT, 
	CONSTRAINT pk_batches PRIMARY KEY (id), 
	CONSTRAINT uq_batches_name UNIQUE (name), 
	CONSTRAINT fk_batches_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
);
INSERT INTO "batches" VALUES(1,'night',1,'runwayml/runway-gen-4/turbo/image-to-video','/jobs.csv','["id"]','{}','clips','{batch}/{id}.{ext}',60000000,1000000,1000000,'s3://inputs/first');
CREATE TABLE counters (
	batch_id INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	jobs BIGINT NOT NULL, 
	CONSTRAINT pk_counters PRIMARY KEY (batch_id, state), 
	CONSTRAINT fk_counters_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
INSERT INTO "counters" VALUES(1,'pending',1);
INSERT INTO "counters" VALUES(1,'submitting',1);
INSERT INTO "counters" VALUES(1,'running',1);
INSERT INTO "counters" VALUES(1,'downloading',1);
INSERT INTO "counters" VALUES(1,'succeeded',1);
INSERT INTO "counters" VALUES(1,'expired',1);
INSERT INTO "counters" VALUES(1,'failed',1);
INSERT INTO "counters" VALUES(1,'in_doubt',1);
INSERT INTO "counters" VALUES(1,'cancelled',1);
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
INSERT INTO "events" VALUES(1,9,'a000018',NULL,1000000,'expired','{"error": "403"}');
INSERT INTO "events" VALUES(2,9,'a000018',NULL,1000000,'link_dead','{"error": "403"}');
INSERT INTO "events" VALUES(3,6,'a000015',NULL,1000000,'failed','{"error": "it failed", "code": "INTERNAL"}');
INSERT INTO "events" VALUES(4,8,'a000017',NULL,1000000,'in_doubt','{"error": "no answer"}');
INSERT INTO "events" VALUES(5,7,NULL,NULL,1000000,'cancelled',NULL);
CREATE TABLE imports (
	id TEXT NOT NULL, 
	batch_id INTEGER NOT NULL, 
	batch_is_new BOOLEAN NOT NULL, 
	after_job_id BIGINT NOT NULL, 
	started_ms BIGINT NOT NULL, 
	CONSTRAINT pk_imports PRIMARY KEY (id), 
	CONSTRAINT fk_imports_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
CREATE TABLE job_database (
	id TEXT NOT NULL, 
	stepped_back TEXT, 
	stamp TEXT DEFAULT '' NOT NULL, 
	new_stamp TEXT, 
	quiet_until_ms BIGINT, moved_to TEXT, copying TEXT, 
	CONSTRAINT pk_job_database PRIMARY KEY (id)
);
INSERT INTO "job_database" VALUES('60c5590f72eef292',NULL,'',NULL,NULL,NULL,NULL);
CREATE TABLE job_keys (
	"key" TEXT NOT NULL, 
	job_id BIGINT NOT NULL, 
	CONSTRAINT pk_job_keys PRIMARY KEY ("key")
)
 WITHOUT ROWID

;
INSERT INTO "job_keys" VALUES('j000001',1);
INSERT INTO "job_keys" VALUES('j000002',2);
INSERT INTO "job_keys" VALUES('j000003',3);
INSERT INTO "job_keys" VALUES('j000004',4);
INSERT INTO "job_keys" VALUES('j000005',5);
INSERT INTO "job_keys" VALUES('j000006',6);
INSERT INTO "job_keys" VALUES('j000007',7);
INSERT INTO "job_keys" VALUES('j000008',8);
INSERT INTO "job_keys" VALUES('j000009',9);
CREATE TABLE "jobs" (
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
	finished_ms BIGINT, settings TEXT, policy_retries_used INTEGER DEFAULT '0' NOT NULL, unfit BOOLEAN DEFAULT false NOT NULL, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT uq_jobs_batch_id_row_id_variant_kind_variant UNIQUE (batch_id, row_id, variant_kind, variant), 
	CONSTRAINT ck_jobs_state CHECK (state IN ('pending', 'submitting', 'running', 'downloading', 'succeeded', 'failed', 'cancelled', 'in_doubt', 'expired')), 
	CONSTRAINT fk_jobs_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
INSERT INTO "jobs" VALUES(1,1,'j000001','pending',1,'','',0,1,'runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"pending","promptImage":"https://images.example.com/a.jpg"}','hash-pending','{"id":"pending"}',NULL,'1/pending.mp4','1/pending.mp4',0,0,250000,'pending',NULL,1,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,'later',1000000,NULL,'{"duration":10}',0,0);
INSERT INTO "jobs" VALUES(2,1,'j000002','submitting',1,'','',1,1,'runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"submitting","promptImage":"https://images.example.com/a.jpg"}','hash-submitting','{"id":"submitting"}',NULL,'1/submitting.mp4','1/submitting.mp4',0,0,250000,'submitting','w1',1,NULL,'a000011',0,NULL,NULL,NULL,NULL,NULL,NULL,1000000,NULL,'{"duration":10}',0,0);
INSERT INTO "jobs" VALUES(3,1,'j000003','running',1,'','',2,1,'runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"running","promptImage":"https://images.example.com/a.jpg"}','hash-running','{"id":"running"}',NULL,'1/running.mp4','1/running.mp4',0,0,250000,'running','w1',1,NULL,'a000012',0,NULL,NULL,NULL,NULL,NULL,NULL,1000000,NULL,'{"duration":10}',0,0);
INSERT INTO "jobs" VALUES(4,1,'j000004','downloading',1,'','',3,1,'runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"downloading","promptImage":"https://images.example.com/a.jpg"}','hash-downloading','{"id":"downloading"}',NULL,'1/downloading.mp4','1/downloading.mp4',0,0,250000,'downloading','w1',1,NULL,'a000013',0,NULL,NULL,'["https://clips.example.com/1.mp4"]',NULL,NULL,NULL,1000000,NULL,'{"duration":10}',0,0);
INSERT INTO "jobs" VALUES(5,1,'j000005','succeeded',1,'','',4,1,'runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"succeeded","promptImage":"https://images.example.com/a.jpg"}','hash-succeeded','{"id":"succeeded"}',NULL,'1/succeeded.mp4','1/succeeded.mp4',0,0,250000,'succeeded',NULL,1,NULL,'a000014',0,NULL,NULL,'["https://clips.example.com/1.mp4"]','[{"path": "a.mp4", "sha256": "00", "size_bytes": 1}]',NULL,NULL,1000000,1000000,'{"duration":10}',0,0);
INSERT INTO "jobs" VALUES(6,1,'j000006','failed',1,'','',5,1,'runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"failed","promptImage":"https://images.example.com/a.jpg"}','hash-failed','{"id":"failed"}',NULL,'1/failed.mp4','1/failed.mp4',0,0,250000,'failed',NULL,1,NULL,'a000015',0,NULL,NULL,NULL,NULL,'generation','it failed',1000000,1000000,'{"duration":10}',0,0);
INSERT INTO "jobs" VALUES(7,1,'j000007','cancelled',1,'','',6,1,'runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"cancelled","promptImage":"https://images.example.com/a.jpg"}','hash-cancelled','{"id":"cancelled"}',NULL,'1/cancelled.mp4','1/cancelled.mp4',0,0,250000,'cancelled',NULL,1,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,'later',1000000,1000000,'{"duration":10}',0,0);
INSERT INTO "jobs" VALUES(8,1,'j000008','in_doubt',1,'','',7,1,'runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"in_doubt","promptImage":"https://images.example.com/a.jpg"}','hash-in_doubt','{"id":"in_doubt"}',NULL,'1/in_doubt.mp4','1/in_doubt.mp4',0,0,250000,'in_doubt',NULL,1,NULL,'a000017',0,NULL,NULL,NULL,NULL,NULL,'no answer',1000000,1000000,'{"duration":10}',0,0);
INSERT INTO "jobs" VALUES(9,1,'j000009','expired',1,'','',8,1,'runwayml/runway-gen-4/turbo/image-to-video','{"promptText":"expired","promptImage":"https://images.example.com/a.jpg"}','hash-expired','{"id":"expired"}',NULL,'1/expired.mp4','1/expired.mp4',0,0,250000,'expired',NULL,1,NULL,'a000018',0,NULL,NULL,'["https://clips.example.com/1.mp4"]',NULL,NULL,'403',1000000,1000000,'{"duration":10}',0,0);
CREATE TABLE prices (
	account_id INTEGER NOT NULL, 
	model TEXT NOT NULL, 
	unit_micros BIGINT NOT NULL, 
	unit TEXT NOT NULL, 
	seen_ms BIGINT NOT NULL, 
	CONSTRAINT pk_prices PRIMARY KEY (account_id, model), 
	CONSTRAINT fk_prices_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
);
INSERT INTO "prices" VALUES(1,'runwayml/runway-gen-4/turbo/image-to-video',50000,'second',1);
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
INSERT INTO "probes" VALUES('0000000000000000000000000000000000000000000000000000000000000000',1000000,NULL,NULL,200,'image/jpeg',34567,1280,720);
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
INSERT INTO "sessions" VALUES('s1','w1','run',1000000,NULL,NULL,NULL);
CREATE TABLE spending (
	account_id INTEGER NOT NULL, 
	batch_id INTEGER NOT NULL, 
	worker_id TEXT NOT NULL, 
	spent_micros BIGINT NOT NULL, 
	CONSTRAINT pk_spending PRIMARY KEY (account_id, batch_id, worker_id), 
	CONSTRAINT fk_spending_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_spending_batch_id FOREIGN KEY(batch_id) REFERENCES batches (id)
);
INSERT INTO "spending" VALUES(1,1,'w1',1000000);
CREATE TABLE workers (
	id TEXT NOT NULL, 
	host TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	version TEXT NOT NULL, 
	state TEXT NOT NULL, 
	started_ms BIGINT NOT NULL, 
	seen_ms BIGINT NOT NULL, 
	expires_ms BIGINT NOT NULL, mark TEXT, 
	CONSTRAINT pk_workers PRIMARY KEY (id)
);
INSERT INTO "workers" VALUES('w1','host',1,'0','live',1000000,1000000,1030000,NULL);
CREATE INDEX ix_events_job_id ON events (job_id);
CREATE INDEX ix_attempts_closed ON attempts (account_id, model, id) WHERE state IN ('succeeded', 'failed');
CREATE INDEX ix_jobs_in_doubt ON jobs (id) WHERE state = 'in_doubt';
CREATE INDEX ix_jobs_pending ON jobs (priority, not_before_ms, id) WHERE state = 'pending';
CREATE INDEX ix_jobs_position ON jobs (batch_id, position);
CREATE INDEX ix_jobs_name ON jobs (name_folded);
CREATE INDEX ix_jobs_owned ON jobs (owner, id) WHERE (state = 'downloading' OR state = 'running' OR state = 'submitting');
CREATE INDEX ix_jobs_paid_inputs ON jobs (input_hash) WHERE state <> 'cancelled' AND state <> 'failed' AND state <> 'pending';
CREATE INDEX ix_jobs_lost ON jobs (batch_id, state, error_class) WHERE (state = 'cancelled' OR state = 'expired' OR state = 'failed');
CREATE UNIQUE INDEX ix_attempts_one_live ON attempts (job_id) WHERE (state = 'accepted' OR state = 'in_doubt' OR state = 'intent') AND NOT extra;
CREATE INDEX ix_attempts_live ON attempts (account_id, batch_id) WHERE (state = 'accepted' OR state = 'in_doubt' OR state = 'intent');
COMMIT;
