BEGIN TRANSACTION;
CREATE TABLE batchgauge_ledger (
	version INTEGER NOT NULL
);
INSERT INTO "batchgauge_ledger" VALUES(1);
CREATE TABLE counters (
	job TEXT NOT NULL, 
	name TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (job, name, labels)
);
INSERT INTO "counters" VALUES('digits','inference_requests_total','[]',75);
INSERT INTO "counters" VALUES('digits','inference_batches_total','[]',2);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_sum','[]',20000000);
INSERT INTO "counters" VALUES('digits','inference_rows_rejected_total','["null"]',30);
INSERT INTO "counters" VALUES('digits','inference_rows_rejected_total','["nan"]',0);
INSERT INTO "counters" VALUES('digits','inference_rows_rejected_total','["infinity"]',0);
INSERT INTO "counters" VALUES('digits','inference_rows_rejected_total','["output"]',0);
INSERT INTO "counters" VALUES('digits','inference_rows_rejected_total','["unreadable"]',0);
INSERT INTO "counters" VALUES('digits','inference_rows_rejected_total','["schema"]',0);
INSERT INTO "counters" VALUES('digits','inference_stage_seconds_total','["read"]',200000000);
INSERT INTO "counters" VALUES('digits','inference_stage_seconds_total','["prepare"]',400000000);
INSERT INTO "counters" VALUES('digits','inference_stage_seconds_total','["infer"]',20000000);
INSERT INTO "counters" VALUES('digits','inference_stage_seconds_total','["write"]',600000000);
INSERT INTO "counters" VALUES('digits','inference_stage_seconds_total','["evaluate"]',1250000000);
INSERT INTO "counters" VALUES('digits','batch_runs_total','["success"]',1);
INSERT INTO "counters" VALUES('digits','batch_runs_total','["partial"]',0);
INSERT INTO "counters" VALUES('digits','batch_runs_total','["failed"]',0);
INSERT INTO "counters" VALUES('digits','batch_runs_total','["skipped"]',1);
INSERT INTO "counters" VALUES('digits','batch_runs_total','["missed"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.0001"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.00025"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.0005"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.001"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.0025"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.005"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.01"]',2);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.025"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.05"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.1"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.25"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.5"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["0.75"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["1.5"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["2.5"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["7.5"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["30.5"]',0);
INSERT INTO "counters" VALUES('digits','inference_batch_latency_seconds_bucket','["inf"]',0);
INSERT INTO "counters" VALUES('digits','model_evaluated_examples_total','["labelled"]',600);
INSERT INTO "counters" VALUES('digits','model_correct_examples_total','["labelled"]',570);
INSERT INTO "counters" VALUES('digits','model_retrains_total','["promoted"]',1);
INSERT INTO "counters" VALUES('digits','model_retrains_total','["refused"]',0);
INSERT INTO "counters" VALUES('digits','model_retrains_total','["failed"]',0);
INSERT INTO "counters" VALUES('digits','model_retrains_total','["stopped"]',0);
INSERT INTO "counters" VALUES('digits','model_retrains_total','["dry_run"]',0);
INSERT INTO "counters" VALUES('digits','model_retrains_total','["rolled_back"]',0);
INSERT INTO "counters" VALUES('other','inference_requests_total','[]',100);
INSERT INTO "counters" VALUES('other','inference_batches_total','[]',1);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_sum','[]',10000000);
INSERT INTO "counters" VALUES('other','inference_rows_rejected_total','["null"]',0);
INSERT INTO "counters" VALUES('other','inference_rows_rejected_total','["nan"]',0);
INSERT INTO "counters" VALUES('other','inference_rows_rejected_total','["infinity"]',0);
INSERT INTO "counters" VALUES('other','inference_rows_rejected_total','["output"]',0);
INSERT INTO "counters" VALUES('other','inference_rows_rejected_total','["unreadable"]',0);
INSERT INTO "counters" VALUES('other','inference_rows_rejected_total','["schema"]',0);
INSERT INTO "counters" VALUES('other','inference_stage_seconds_total','["read"]',100000000);
INSERT INTO "counters" VALUES('other','inference_stage_seconds_total','["prepare"]',200000000);
INSERT INTO "counters" VALUES('other','inference_stage_seconds_total','["infer"]',10000000);
INSERT INTO "counters" VALUES('other','inference_stage_seconds_total','["write"]',300000000);
INSERT INTO "counters" VALUES('other','inference_stage_seconds_total','["evaluate"]',0);
INSERT INTO "counters" VALUES('other','batch_runs_total','["success"]',0);
INSERT INTO "counters" VALUES('other','batch_runs_total','["partial"]',0);
INSERT INTO "counters" VALUES('other','batch_runs_total','["failed"]',0);
INSERT INTO "counters" VALUES('other','batch_runs_total','["skipped"]',0);
INSERT INTO "counters" VALUES('other','batch_runs_total','["missed"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.0001"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.00025"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.0005"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.001"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.0025"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.005"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.01"]',1);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.025"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.05"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.1"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.25"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.5"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["0.75"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["1.5"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["2.5"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["7.5"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["30.5"]',0);
INSERT INTO "counters" VALUES('other','inference_batch_latency_seconds_bucket','["inf"]',0);
INSERT INTO "counters" VALUES('other','model_evaluated_examples_total','["labelled"]',0);
INSERT INTO "counters" VALUES('other','model_correct_examples_total','["labelled"]',0);
INSERT INTO "counters" VALUES('other','model_retrains_total','["promoted"]',0);
INSERT INTO "counters" VALUES('other','model_retrains_total','["refused"]',0);
INSERT INTO "counters" VALUES('other','model_retrains_total','["failed"]',0);
INSERT INTO "counters" VALUES('other','model_retrains_total','["stopped"]',0);
INSERT INTO "counters" VALUES('other','model_retrains_total','["dry_run"]',0);
INSERT INTO "counters" VALUES('other','model_retrains_total','["rolled_back"]',0);
CREATE TABLE jobs (
	job TEXT NOT NULL, 
	definition TEXT NOT NULL, 
	registered_at FLOAT NOT NULL, 
	sequence BIGINT NOT NULL, 
	next_expected_at FLOAT, 
	accounted_until FLOAT NOT NULL, 
	latest_run_id TEXT, 
	last_success_at FLOAT, 
	model TEXT, 
	pushed_sequence BIGINT NOT NULL, 
	pushed_at FLOAT, 
	pushed_group TEXT, 
	push_error TEXT, 
	push_failed_at FLOAT, 
	PRIMARY KEY (job)
);
INSERT INTO "jobs" VALUES('digits','{"job":"digits","spec_path":"/jobs/digits.toml","schedule":"15 2 * * *","timezone":"UTC","grace_seconds":1800.0,"thresholds":{"latency_seconds":1.0,"accuracy":0.9,"recall":0.85},"holdouts":["labelled"],"destination":{"gateway":"http://gateway:9091","textfile":null,"labels":{"env":"prod","a":"ü"},"ca_file":null,"every_seconds":15.0,"timeout_seconds":10.0},"timeout_seconds":7200.0,"retrains":true}',1.0,7,1000.0,1.0,'run-1',1795227400.25,'{"version":"2026-11-22","sha256":"abababababababababababababababababababababababababababababababab","format":"safetensors","device":"cpu","parameters":1234}',3,1795228000.5,'{"gateway":"http://gateway:9091","labels":{"job":"digits","env":"prod","a":"ü"}}','no answer',1795228001.5);
INSERT INTO "jobs" VALUES('other','{"job":"other","spec_path":"/jobs/other.toml","schedule":"15 2 * * *","timezone":"UTC","grace_seconds":1800.0,"thresholds":{"latency_seconds":1.0,"accuracy":0.9,"recall":0.85},"holdouts":["labelled"],"destination":{"gateway":null,"textfile":"/textfiles","labels":{},"ca_file":null,"every_seconds":15.0,"timeout_seconds":10.0},"timeout_seconds":7200.0,"retrains":true}',2.0,4,NULL,1795227300.0,NULL,NULL,NULL,0,NULL,NULL,NULL,NULL);
CREATE TABLE parts (
	job TEXT NOT NULL, 
	output TEXT NOT NULL, 
	folder TEXT NOT NULL, 
	name TEXT NOT NULL, 
	source TEXT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	model TEXT NOT NULL, 
	rows_scored BIGINT NOT NULL, 
	run_id TEXT NOT NULL, 
	PRIMARY KEY (job, output)
);
INSERT INTO "parts" VALUES('digits','/scored/a.parquet','/scored','a.parquet','/data/a.parquet','ffffffff','mmmmmmmm',70,'run-1');
INSERT INTO "parts" VALUES('digits','/scored/b.parquet','/scored','b.parquet','/data/b.parquet','ffffffff','mmmmmmmm',5,'run-1');
INSERT INTO "parts" VALUES('other','/elsewhere/c.parquet','/elsewhere','c.parquet','/data/c.parquet','ffffffff','mmmmmmmm',100,'run-3');
CREATE TABLE quality (
	job TEXT NOT NULL, 
	holdout TEXT NOT NULL, 
	logical_date TEXT NOT NULL, 
	report TEXT NOT NULL, 
	PRIMARY KEY (job, holdout)
);
INSERT INTO "quality" VALUES('digits','labelled','2026-11-21','{"name":"labelled","min_examples":30,"evaluated_at":1795227390.0,"examples":600,"correct":570,"rejected":{},"accuracy":[0.95,0.9295,0.9647],"recall":[0.94,0.91,0.96],"precision":0.945,"f1_score":0.9425,"classes":[{"name":"zero","examples":300,"predicted":310,"correct":290,"recall":0.967,"precision":0.935},{"name":"\"one\"\n","examples":300,"predicted":290,"correct":280,"recall":0.933,"precision":null}],"confusion":[[0,0,290],[0,1,10],[1,0,20],[1,1,280]],"slices":[{"dimension":"scanner","value":"a","examples":300,"correct":290,"accuracy":[0.967,0.94,0.982],"recall":[0.96,0.93,0.98],"judged":true},{"dimension":"scanner","value":"b\\🙂","examples":280,"correct":270,"accuracy":[0.964,0.935,0.98],"recall":[0.95,0.92,0.97],"judged":true},{"dimension":"scanner","value":"__other__","examples":20,"correct":10,"accuracy":[0.5,0.299,0.701],"recall":null,"judged":false}],"slices_dropped":4,"seconds":1.25,"error":null}');
CREATE TABLE retrains (
	ordinal INTEGER NOT NULL, 
	retrain_id TEXT NOT NULL, 
	job TEXT NOT NULL, 
	cause TEXT NOT NULL, 
	alerts TEXT NOT NULL, 
	logical_date TEXT NOT NULL, 
	model_path TEXT NOT NULL, 
	started_at FLOAT NOT NULL, 
	finished_at FLOAT, 
	outcome TEXT, 
	reason TEXT, 
	figures TEXT NOT NULL, 
	before_version TEXT, 
	before_sha256 TEXT, 
	after_version TEXT, 
	after_sha256 TEXT, 
	PRIMARY KEY (ordinal), 
	UNIQUE (retrain_id)
);
INSERT INTO "retrains" VALUES(1,'r1','digits','alert','[["1a","2026-11-22T02:15:00+00:00"]]','2026-11-21','/m.pt2',10.0,20.0,'promoted','better','{"slices":3}','v1','aa','v2','bb');
INSERT INTO "retrains" VALUES(2,'r2','digits','hand','[]','2026-11-21','/m.pt2',30.0,NULL,NULL,NULL,'{}',NULL,NULL,NULL,NULL);
CREATE TABLE runs (
	ordinal INTEGER NOT NULL, 
	run_id TEXT NOT NULL, 
	job TEXT NOT NULL, 
	"trigger" TEXT NOT NULL, 
	logical_date TEXT NOT NULL, 
	host TEXT NOT NULL, 
	pid BIGINT, 
	started_at FLOAT NOT NULL, 
	finished_at FLOAT, 
	outcome TEXT, 
	model TEXT, 
	parts_done BIGINT NOT NULL, 
	batches BIGINT NOT NULL, 
	rows_read BIGINT NOT NULL, 
	rows_scored BIGINT NOT NULL, 
	rejected TEXT NOT NULL, 
	stages TEXT NOT NULL, 
	report TEXT, 
	PRIMARY KEY (ordinal), 
	UNIQUE (run_id)
);
INSERT INTO "runs" VALUES(1,'run-1','digits','cron','2026-11-21','worker-7',4242,1795227300.0,1795227400.25,'success',NULL,2,2,105,75,'{"null":30}','{"read":200000000,"prepare":400000000,"infer":20000000,"write":600000000}','{"run_id":"run-1","job":"digits","trigger":"cron","logical_date":"2026-11-21","host":"worker-7","started_at":1795227300.0,"finished_at":1795227400.25,"elapsed_seconds":100.25,"scoring_seconds":80.0,"outcome":"success","reason":null,"model":{"version":"2026-11-22","sha256":"abababababababababababababababababababababababababababababababab","format":"safetensors","device":"cpu","parameters":1234},"batch_rows":1024,"workers":2,"parts_planned":2,"parts_done":2,"parts_skipped":0,"rows_read":105,"rows_scored":75,"rows_rejected":{"null":30},"batches":2,"latency_quantiles":{"0.5":0.01,"0.95":0.01,"0.99":0.01,"1.0":0.01},"stage_seconds":{"read":0.2,"prepare":0.4,"infer":0.02,"write":0.6,"evaluate":1.25},"rejections":[],"holdouts":[{"name":"labelled","min_examples":30,"evaluated_at":1795227390.0,"examples":600,"correct":570,"rejected":{},"accuracy":[0.95,0.9295,0.9647],"recall":[0.94,0.91,0.96],"precision":0.945,"f1_score":0.9425,"classes":[{"name":"zero","examples":300,"predicted":310,"correct":290,"recall":0.967,"precision":0.935},{"name":"\"one\"\n","examples":300,"predicted":290,"correct":280,"recall":0.933,"precision":null}],"confusion":[[0,0,290],[0,1,10],[1,0,20],[1,1,280]],"slices":[{"dimension":"scanner","value":"a","examples":300,"correct":290,"accuracy":[0.967,0.94,0.982],"recall":[0.96,0.93,0.98],"judged":true},{"dimension":"scanner","value":"b\\🙂","examples":280,"correct":270,"accuracy":[0.964,0.935,0.98],"recall":[0.95,0.92,0.97],"judged":true},{"dimension":"scanner","value":"__other__","examples":20,"correct":10,"accuracy":[0.5,0.299,0.701],"recall":null,"judged":false}],"slices_dropped":4,"seconds":1.25,"error":null}],"resources":{"cpu_usage_ratio":0.75,"max_resident_memory_bytes":536870912,"accelerator_memory_peak_bytes":1073741824},"warnings":[]}');
INSERT INTO "runs" VALUES(2,'run-2','digits','cron','2026-11-21','worker-7',NULL,1795227300.0,1795227400.25,'skipped',NULL,0,0,0,0,'{}','{}','{"run_id":"run-2","job":"digits","trigger":"cron","logical_date":"2026-11-21","host":"worker-7","started_at":1795227300.0,"finished_at":1795227400.25,"elapsed_seconds":100.25,"scoring_seconds":80.0,"outcome":"skipped","reason":null,"model":null,"batch_rows":1024,"workers":2,"parts_planned":0,"parts_done":0,"parts_skipped":0,"rows_read":0,"rows_scored":0,"rows_rejected":{},"batches":0,"latency_quantiles":{},"stage_seconds":{"read":0.0,"prepare":0.0,"infer":0.0,"write":0.0,"evaluate":0.0},"rejections":[],"holdouts":[],"resources":{"cpu_usage_ratio":0.75,"max_resident_memory_bytes":536870912,"accelerator_memory_peak_bytes":1073741824},"warnings":[]}');
INSERT INTO "runs" VALUES(3,'run-3','other','cron','2026-11-21','worker-7',4242,1795227300.0,NULL,NULL,'{"version":"2026-11-22","sha256":"abababababababababababababababababababababababababababababababab","format":"safetensors","device":"cpu","parameters":1234}',1,1,100,100,'{}','{"read":100000000,"prepare":200000000,"infer":10000000,"write":300000000}',NULL);
CREATE INDEX runs_of_job ON runs (job, ordinal);
CREATE INDEX parts_of_folder ON parts (folder, job);
CREATE INDEX retrains_of_job ON retrains (job, ordinal);
COMMIT;
