-- Written by the code before revision 0004: one execution in each status.
SET check_function_bodies = false;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE FUNCTION public.agentflow_fence(written bigint, sent bigint) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF written IS DISTINCT FROM sent THEN
        RAISE EXCEPTION 'fenced out: % of % rows', written, sent USING ERRCODE = 'AF001';
    END IF;
    RETURN written;
END $$;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.api_keys (
    key_id text NOT NULL,
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    key_hash bytea NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    last_used_at timestamp with time zone,
    expires_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.blob_space (
    space uuid DEFAULT gen_random_uuid() NOT NULL
);
CREATE TABLE public.blob_uses (
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    sha256 bytea NOT NULL
);
CREATE TABLE public.blobs (
    tenant_id uuid NOT NULL,
    sha256 bytea NOT NULL,
    size bigint NOT NULL,
    media_type text NOT NULL,
    made bigint NOT NULL,
    touched_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    look_at timestamp with time zone DEFAULT (clock_timestamp() + '01:00:00'::interval) NOT NULL
);
ALTER TABLE public.blobs ALTER COLUMN made ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.blobs_made_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.commands (
    id bigint NOT NULL,
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    wait text NOT NULL,
    kind text NOT NULL,
    payload bytea NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    asked_by text
);
ALTER TABLE public.commands ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.commands_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.coordinators (
    id text NOT NULL,
    epoch bigint NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    guarded bigint
);
CREATE TABLE public.erasures (
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL
);
CREATE TABLE public.executions (
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    content_hash text NOT NULL,
    workflow_name text,
    status text DEFAULT 'pending'::text NOT NULL,
    priority smallint DEFAULT 3 NOT NULL,
    initial_state bytea NOT NULL,
    metadata bytea NOT NULL,
    final_state bytea,
    output bytea,
    error bytea,
    tokens_used bigint DEFAULT 0 NOT NULL,
    cost numeric(20,6) DEFAULT 0 NOT NULL,
    execution_time double precision DEFAULT 0 NOT NULL,
    nodes_executed integer DEFAULT 0 NOT NULL,
    trace_id text,
    owner text,
    owner_epoch bigint,
    owned_at timestamp with time zone,
    wake_at timestamp with time zone,
    strikes integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    retention_days integer DEFAULT 90 NOT NULL,
    ended_at timestamp with time zone
);
CREATE TABLE public.journal (
    execution_id uuid NOT NULL,
    seq bigint NOT NULL,
    tenant_id uuid NOT NULL,
    epoch bigint NOT NULL,
    kind text NOT NULL,
    step text,
    attempt integer,
    generation integer,
    payload bytea NOT NULL,
    at timestamp with time zone NOT NULL
);
CREATE TABLE public.snapshots (
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    seq bigint NOT NULL,
    format text NOT NULL,
    state bytea NOT NULL,
    running text[] DEFAULT '{}'::text[] NOT NULL,
    generations integer[] DEFAULT '{}'::integer[] NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.specs (
    tenant_id uuid NOT NULL,
    content_hash text NOT NULL,
    spec bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.steps (
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    "position" integer NOT NULL,
    step text NOT NULL,
    generation integer DEFAULT 0 NOT NULL,
    node_id text NOT NULL,
    status text NOT NULL,
    details bytea NOT NULL
);
CREATE TABLE public.tenants (
    tenant_id uuid NOT NULL,
    name text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.waits (
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    wait_id text NOT NULL,
    step text NOT NULL,
    generation integer DEFAULT 0 NOT NULL,
    node_id text NOT NULL,
    kind text NOT NULL,
    signal text,
    due_at timestamp with time zone,
    asks bytea NOT NULL,
    assignees text[] DEFAULT '{}'::text[] NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    answered_at timestamp with time zone,
    answered_by text,
    closed_at timestamp with time zone
);
INSERT INTO public.alembic_version VALUES
	('0003');
INSERT INTO public.api_keys VALUES
	('0HlZPRqT7ouz', '01900000-0000-7000-8000-000000000001', 'bootstrap', 'not the hash of a key', 'active', NULL, NULL, '2026-11-23 02:35:30.452606+00', '2026-11-23 02:35:30.452606+00');
INSERT INTO public.blob_space VALUES
	('3bee74ca-6c2c-4843-898c-4d4ed69233ad');
INSERT INTO public.commands OVERRIDING SYSTEM VALUE VALUES
	(2, '01a20642-48f2-70a4-ac67-a9538da9ee2b', '01900000-0000-7000-8000-000000000001', 'cancel', 'cancel', '{"reason":"enough"}', '2026-11-23 02:35:37.626534+00', NULL);
INSERT INTO public.coordinators VALUES
	('local/1029@124d9548', 1795401331, '-infinity', '2026-11-23 02:35:36.373998+00', 1795401330),
	('local/1375@b8b826c2', 1795401338, '-infinity', NULL, 1795401337);
INSERT INTO public.executions VALUES
	('01a20642-30c2-77c2-8e59-5019cb4799a6', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'completed', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 2 after answer to [step 1 after ans]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":45,"cost":0.0,"execution_time":4.053161,"metadata":{"execution_id":"exec_01a2064230c277c28e595019cb4799a6","start_time":"2026-11-23T02:35:30.882Z","end_time":"2026-11-23T02:35:34.935Z"},"errors":[],"execution_path":["n0","n1","n2"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n2":{"text":"answer to [step 2 after answer to [step 1 after ans]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', '{"user_input":"go","intent":"","text_result":"answer to [step 2 after answer to [step 1 after ans]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":45,"cost":0.0,"execution_time":0.0,"metadata":{"execution_id":"exec_01a2064230c277c28e595019cb4799a6","start_time":"2026-11-23T02:35:30.882Z","end_time":null},"errors":[],"execution_path":["n0","n1","n2"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n2":{"text":"answer to [step 2 after answer to [step 1 after ans]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', NULL, 45, 0.000000, 4.053161, 3, NULL, 'local/1029@124d9548', 1795401330, '2026-11-23 02:35:30.970724+00', NULL, 0, '2026-11-23 02:35:30.882745+00', '2026-11-23 02:35:30.882745+00', '2026-11-23 02:35:34.935906+00', '2026-11-23 02:35:34.953509+00', 7, '2026-11-23 02:35:34.953509+00'),
	('01a20642-40ce-71c3-af07-fc67f8849603', '01900000-0000-7000-8000-000000000001', '323eab3354563573c93fba038cdb1d740ee9e8ea203c0f84484301ea37e82545', 'failing', 'failed', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 0 after ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":15,"cost":0.0,"execution_time":0.220341,"metadata":{"execution_id":"exec_01a2064240ce71c3af07fc67f8849603","start_time":"2026-11-23T02:35:34.991Z","end_time":"2026-11-23T02:35:35.211Z"},"errors":[{"node_id":"n1","type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env","at":"2026-11-23T02:35:35.211Z"}],"execution_path":["n0","n1"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":null}}', 'null', '{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env","node_id":"n1"}', 15, 0.000000, 0.220341, 2, NULL, 'local/1029@124d9548', 1795401330, '2026-11-23 02:35:35.033499+00', NULL, 0, '2026-11-23 02:35:34.99128+00', '2026-11-23 02:35:34.99128+00', '2026-11-23 02:35:35.211621+00', '2026-11-23 02:35:35.223751+00', 90, '2026-11-23 02:35:35.223751+00'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', '01900000-0000-7000-8000-000000000001', '653b0393e1c2d12447d48748a047f9843851ff3bdc56e4d35689834a87ea959b', 'hanging', 'timed_out', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 0 after ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":15,"cost":0.0,"execution_time":1.001175,"metadata":{"execution_id":"exec_01a2064241ca73fb92cd09d5f0d3db23","start_time":"2026-11-23T02:35:35.243Z","end_time":"2026-11-23T02:35:36.244Z"},"errors":[],"execution_path":["n0"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', 'null', '{"type":"ExecutionTimedOut","message":"The execution did not end within settings.timeout_s = 1 s","node_id":null}', 15, 0.000000, 1.001175, 2, NULL, 'local/1029@124d9548', 1795401330, '2026-11-23 02:35:35.249867+00', NULL, 0, '2026-11-23 02:35:35.24302+00', '2026-11-23 02:35:35.24302+00', '2026-11-23 02:35:36.244194+00', '2026-11-23 02:35:36.247445+00', 90, '2026-11-23 02:35:36.247445+00'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', '01900000-0000-7000-8000-000000000001', '6e06a5d9605af6b98022d34d7bfc73fecae22e9ae203ff5a70ae12c5a5171d0a', 'hanging', 'cancelled', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 0 after ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":15,"cost":0.0,"execution_time":0.076969,"metadata":{"execution_id":"exec_01a2064245c7737ebd14dbdcbfd8e9e6","start_time":"2026-11-23T02:35:36.264Z","end_time":"2026-11-23T02:35:36.341Z"},"errors":[],"execution_path":["n0"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', 'null', '{"type":"ExecutionCancelled","message":"Cancelled by a caller","node_id":null}', 15, 0.000000, 0.076969, 2, NULL, 'local/1029@124d9548', 1795401330, '2026-11-23 02:35:36.268996+00', NULL, 0, '2026-11-23 02:35:36.264272+00', '2026-11-23 02:35:36.264272+00', '2026-11-23 02:35:36.341242+00', '2026-11-23 02:35:36.353959+00', 90, '2026-11-23 02:35:36.353959+00'),
	('01a20642-48f2-70a4-ac67-a9538da9ee2b', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'running', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'local/1375@b8b826c2', 1795401337, '2026-11-23 02:35:37.27333+00', NULL, 0, '2026-11-23 02:35:37.082627+00', '2026-11-23 02:35:37.082627+00', NULL, '2026-11-23 02:35:37.273331+00', 7, NULL),
	('01a20642-4a3d-702d-b49f-262e1cedd844', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'running', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'local/1375@b8b826c2', 1795401337, '2026-11-23 02:35:37.407412+00', NULL, 0, '2026-11-23 02:35:37.405364+00', '2026-11-23 02:35:37.405364+00', NULL, '2026-11-23 02:35:37.407413+00', 7, NULL),
	('01a20642-47db-7280-ad12-10b82faa28da', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'pending', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'local/1375@b8b826c2', 1795401337, '2026-11-23 02:35:36.830984+00', NULL, 0, '2026-11-23 02:35:36.796658+00', '2026-11-23 02:35:36.796658+00', NULL, '2026-11-23 02:35:36.830985+00', 7, NULL),
	('01a20642-4868-7716-bdf6-b9150620fcd4', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'waiting', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, NULL, NULL, '2026-11-23 02:35:36.95768+00', '2026-11-23 02:35:37.616837+00', 0, '2026-11-23 02:35:36.93663+00', '2026-11-23 02:35:36.93663+00', NULL, '2026-11-23 02:35:36.957681+00', 7, NULL),
	('01a20642-489b-763d-a67f-c89cbd76c2a0', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'quarantined', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, NULL, NULL, '2026-11-23 02:35:36.999141+00', NULL, 3, '2026-11-23 02:35:36.987737+00', '2026-11-23 02:35:36.987737+00', NULL, '2026-11-23 02:35:36.999142+00', 7, NULL),
	('01a20642-4a18-754d-9e25-04ebc2c20071', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'running', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, NULL, NULL, '2026-11-23 02:35:37.371386+00', NULL, 0, '2026-11-23 02:35:37.368441+00', '2026-11-23 02:35:37.368441+00', NULL, '2026-11-23 02:35:37.371387+00', 7, NULL);
INSERT INTO public.journal VALUES
	('01a20642-30c2-77c2-8e59-5019cb4799a6', 1, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401330.8827448,"execution_id":"exec_01a2064230c277c28e595019cb4799a6","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:30.882745+00'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', 2, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795401330.8827448}', '2026-11-23 02:35:30.882745+00'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', 3, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795401330.8827448,"step":"n0"}', '2026-11-23 02:35:30.882745+00'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', 4, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795401334.7886076,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1029,"node":"local","pool":"local","seconds":3.780674}}', '2026-11-23 02:35:34.788608+00'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', 5, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795401334.7886076,"step":"n1"}', '2026-11-23 02:35:34.788608+00'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', 6, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795401334.8317776,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1029,"node":"local","pool":"local","seconds":0.029795}}', '2026-11-23 02:35:34.831778+00'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', 7, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795401334.8317776,"step":"n2"}', '2026-11-23 02:35:34.831778+00'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', 8, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.completed', 'n2', 1, 0, '{"type":"step.completed","at":1795401334.9357584,"step":"n2","result":{"text":"answer to [step 2 after answer to [step 1 after ans]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 2 after answer to [step 1 after ans]"},"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1029,"node":"local","pool":"local","seconds":0.020101}}', '2026-11-23 02:35:34.935758+00'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', 9, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.completed', NULL, NULL, NULL, '{"type":"execution.completed","at":1795401334.9359055,"output":{"user_input":"go","intent":"","text_result":"answer to [step 2 after answer to [step 1 after ans]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":45,"cost":0.0,"execution_time":0.0,"metadata":{"execution_id":"exec_01a2064230c277c28e595019cb4799a6","start_time":"2026-11-23T02:35:30.882Z","end_time":null},"errors":[],"execution_path":["n0","n1","n2"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n2":{"text":"answer to [step 2 after answer to [step 1 after ans]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}}', '2026-11-23 02:35:34.935906+00'),
	('01a20642-40ce-71c3-af07-fc67f8849603', 1, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401334.9912798,"execution_id":"exec_01a2064240ce71c3af07fc67f8849603","tenant":"ten_01900000000070008000000000000001","content_hash":"323eab3354563573c93fba038cdb1d740ee9e8ea203c0f84484301ea37e82545","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:34.99128+00'),
	('01a20642-40ce-71c3-af07-fc67f8849603', 2, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795401334.9912798}', '2026-11-23 02:35:34.99128+00'),
	('01a20642-40ce-71c3-af07-fc67f8849603', 3, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795401334.9912798,"step":"n0"}', '2026-11-23 02:35:34.99128+00'),
	('01a20642-40ce-71c3-af07-fc67f8849603', 4, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795401335.1362438,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1029,"node":"local","pool":"local","seconds":0.089872}}', '2026-11-23 02:35:35.136244+00'),
	('01a20642-40ce-71c3-af07-fc67f8849603', 5, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795401335.1362438,"step":"n1"}', '2026-11-23 02:35:35.136244+00'),
	('01a20642-40ce-71c3-af07-fc67f8849603', 6, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.failed', 'n1', 1, 0, '{"type":"step.failed","at":1795401335.211621,"step":"n1","error":{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env"},"worker":{"pid":1029,"node":"local","pool":"local","seconds":0.060681}}', '2026-11-23 02:35:35.211621+00'),
	('01a20642-40ce-71c3-af07-fc67f8849603', 7, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.failed', NULL, NULL, NULL, '{"type":"execution.failed","at":1795401335.211621,"error":{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env"},"node_id":"n1"}', '2026-11-23 02:35:35.211621+00'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', 1, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401335.2430196,"execution_id":"exec_01a2064241ca73fb92cd09d5f0d3db23","tenant":"ten_01900000000070008000000000000001","content_hash":"653b0393e1c2d12447d48748a047f9843851ff3bdc56e4d35689834a87ea959b","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:35.24302+00'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', 2, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795401335.2430196}', '2026-11-23 02:35:35.24302+00'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', 3, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795401335.2430196,"step":"n0"}', '2026-11-23 02:35:35.24302+00'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', 6, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.cancelled', 'n1', 1, 0, '{"type":"step.cancelled","at":1795401336.3412416,"step":"n1"}', '2026-11-23 02:35:36.341242+00'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', 7, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.cancelled', NULL, NULL, NULL, '{"type":"execution.cancelled","at":1795401336.3412416,"reason":"enough"}', '2026-11-23 02:35:36.341242+00'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', 4, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795401335.2660851,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1029,"node":"local","pool":"local","seconds":0.011581}}', '2026-11-23 02:35:35.266085+00'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', 5, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795401335.2660851,"step":"n1"}', '2026-11-23 02:35:35.266085+00'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', 6, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.cancelled', 'n1', 1, 0, '{"type":"step.cancelled","at":1795401336.2441943,"step":"n1"}', '2026-11-23 02:35:36.244194+00'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', 7, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.timed_out', NULL, NULL, NULL, '{"type":"execution.timed_out","at":1795401336.2441943,"limit_s":1.0}', '2026-11-23 02:35:36.244194+00'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', 1, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401336.2642722,"execution_id":"exec_01a2064245c7737ebd14dbdcbfd8e9e6","tenant":"ten_01900000000070008000000000000001","content_hash":"6e06a5d9605af6b98022d34d7bfc73fecae22e9ae203ff5a70ae12c5a5171d0a","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:36.264272+00'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', 2, '01900000-0000-7000-8000-000000000001', 1795401330, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795401336.2642722}', '2026-11-23 02:35:36.264272+00'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', 3, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795401336.2642722,"step":"n0"}', '2026-11-23 02:35:36.264272+00'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', 4, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795401336.2994852,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1029,"node":"local","pool":"local","seconds":0.0232}}', '2026-11-23 02:35:36.299485+00'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', 5, '01900000-0000-7000-8000-000000000001', 1795401330, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795401336.2994852,"step":"n1"}', '2026-11-23 02:35:36.299485+00'),
	('01a20642-47db-7280-ad12-10b82faa28da', 1, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401336.7966585,"execution_id":"exec_01a2064247db7280ad1210b82faa28da","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:36.796658+00'),
	('01a20642-4868-7716-bdf6-b9150620fcd4', 1, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401336.9366298,"execution_id":"exec_01a2064248687716bdf6b9150620fcd4","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:36.93663+00'),
	('01a20642-4868-7716-bdf6-b9150620fcd4', 2, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795401336.9366298}', '2026-11-23 02:35:36.93663+00'),
	('01a20642-4868-7716-bdf6-b9150620fcd4', 3, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795401336.9366298,"step":"n0"}', '2026-11-23 02:35:36.93663+00'),
	('01a20642-489b-763d-a67f-c89cbd76c2a0', 1, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401336.987737,"execution_id":"exec_01a20642489b763da67fc89cbd76c2a0","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:36.987737+00'),
	('01a20642-489b-763d-a67f-c89cbd76c2a0', 2, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795401336.987737}', '2026-11-23 02:35:36.987737+00'),
	('01a20642-489b-763d-a67f-c89cbd76c2a0', 3, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795401336.987737,"step":"n0"}', '2026-11-23 02:35:36.987737+00'),
	('01a20642-4868-7716-bdf6-b9150620fcd4', 4, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795401337.0284142,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.051094}}', '2026-11-23 02:35:37.028414+00'),
	('01a20642-4868-7716-bdf6-b9150620fcd4', 5, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795401337.0284142,"step":"n1"}', '2026-11-23 02:35:37.028414+00'),
	('01a20642-489b-763d-a67f-c89cbd76c2a0', 4, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795401337.1267345,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.097412}}', '2026-11-23 02:35:37.126734+00'),
	('01a20642-489b-763d-a67f-c89cbd76c2a0', 5, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795401337.1267345,"step":"n1"}', '2026-11-23 02:35:37.126734+00'),
	('01a20642-4868-7716-bdf6-b9150620fcd4', 6, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795401337.1687822,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.059284}}', '2026-11-23 02:35:37.168782+00'),
	('01a20642-4868-7716-bdf6-b9150620fcd4', 7, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795401337.1687822,"step":"n2"}', '2026-11-23 02:35:37.168782+00'),
	('01a20642-489b-763d-a67f-c89cbd76c2a0', 6, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795401337.179776,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.0368}}', '2026-11-23 02:35:37.179776+00'),
	('01a20642-489b-763d-a67f-c89cbd76c2a0', 7, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795401337.179776,"step":"n2"}', '2026-11-23 02:35:37.179776+00'),
	('01a20642-48f2-70a4-ac67-a9538da9ee2b', 1, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401337.0826266,"execution_id":"exec_01a2064248f270a4ac67a9538da9ee2b","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:37.082627+00'),
	('01a20642-48f2-70a4-ac67-a9538da9ee2b', 2, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795401337.0826266}', '2026-11-23 02:35:37.082627+00'),
	('01a20642-48f2-70a4-ac67-a9538da9ee2b', 3, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795401337.0826266,"step":"n0"}', '2026-11-23 02:35:37.082627+00'),
	('01a20642-4a18-754d-9e25-04ebc2c20071', 1, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401337.3684406,"execution_id":"exec_01a206424a18754d9e2504ebc2c20071","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:37.368441+00'),
	('01a20642-4a18-754d-9e25-04ebc2c20071', 2, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795401337.3684406}', '2026-11-23 02:35:37.368441+00'),
	('01a20642-4a18-754d-9e25-04ebc2c20071', 3, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795401337.3684406,"step":"n0"}', '2026-11-23 02:35:37.368441+00'),
	('01a20642-48f2-70a4-ac67-a9538da9ee2b', 4, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795401337.383946,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.026978}}', '2026-11-23 02:35:37.383946+00'),
	('01a20642-48f2-70a4-ac67-a9538da9ee2b', 5, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795401337.383946,"step":"n1"}', '2026-11-23 02:35:37.383946+00'),
	('01a20642-4a3d-702d-b49f-262e1cedd844', 1, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795401337.4053643,"execution_id":"exec_01a206424a3d702db49f262e1cedd844","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-23 02:35:37.405364+00'),
	('01a20642-4a3d-702d-b49f-262e1cedd844', 2, '01900000-0000-7000-8000-000000000001', 1795401337, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795401337.4053643}', '2026-11-23 02:35:37.405364+00'),
	('01a20642-4a3d-702d-b49f-262e1cedd844', 3, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795401337.4053643,"step":"n0"}', '2026-11-23 02:35:37.405364+00'),
	('01a20642-48f2-70a4-ac67-a9538da9ee2b', 6, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795401337.4224863,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.014486}}', '2026-11-23 02:35:37.422486+00'),
	('01a20642-48f2-70a4-ac67-a9538da9ee2b', 7, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795401337.4224863,"step":"n2"}', '2026-11-23 02:35:37.422486+00'),
	('01a20642-4a3d-702d-b49f-262e1cedd844', 4, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795401337.4549437,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.038682}}', '2026-11-23 02:35:37.454944+00'),
	('01a20642-4a3d-702d-b49f-262e1cedd844', 5, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795401337.4549437,"step":"n1"}', '2026-11-23 02:35:37.454944+00'),
	('01a20642-4a18-754d-9e25-04ebc2c20071', 4, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795401337.4559636,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.066721}}', '2026-11-23 02:35:37.455964+00'),
	('01a20642-4a18-754d-9e25-04ebc2c20071', 5, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795401337.4559636,"step":"n1"}', '2026-11-23 02:35:37.455964+00'),
	('01a20642-4a18-754d-9e25-04ebc2c20071', 6, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795401337.501587,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.029671}}', '2026-11-23 02:35:37.501587+00'),
	('01a20642-4a18-754d-9e25-04ebc2c20071', 7, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795401337.501587,"step":"n2"}', '2026-11-23 02:35:37.501587+00'),
	('01a20642-4a3d-702d-b49f-262e1cedd844', 6, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795401337.5298655,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"reasoning_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":1375,"node":"local","pool":"local","seconds":0.0608}}', '2026-11-23 02:35:37.529866+00'),
	('01a20642-4a3d-702d-b49f-262e1cedd844', 7, '01900000-0000-7000-8000-000000000001', 1795401337, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795401337.5298655,"step":"n2"}', '2026-11-23 02:35:37.529866+00');
INSERT INTO public.specs VALUES
	('01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', '{"name":"chain","nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"step 1 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false},"retry":{"max_attempts":1}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","settings":{"retention_days":7}}', '2026-11-23 02:35:30.888081+00'),
	('01900000-0000-7000-8000-000000000001', '323eab3354563573c93fba038cdb1d740ee9e8ea203c0f84484301ea37e82545', '{"name":"failing","nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"please fail","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false},"retry":{"max_attempts":1}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","settings":{}}', '2026-11-23 02:35:34.995523+00'),
	('01900000-0000-7000-8000-000000000001', '653b0393e1c2d12447d48748a047f9843851ff3bdc56e4d35689834a87ea959b', '{"name":"hanging","nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"please hang","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false},"retry":{"max_attempts":1}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","settings":{"timeout_s":1}}', '2026-11-23 02:35:35.249255+00'),
	('01900000-0000-7000-8000-000000000001', '6e06a5d9605af6b98022d34d7bfc73fecae22e9ae203ff5a70ae12c5a5171d0a', '{"name":"hanging","nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"please hang","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false},"retry":{"max_attempts":1}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","settings":{}}', '2026-11-23 02:35:36.265768+00');
INSERT INTO public.steps VALUES
	('01a20642-30c2-77c2-8e59-5019cb4799a6', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-23T02:35:30.882Z","ended_at":"2026-11-23T02:35:34.788Z","queued_s":0.0,"duration_s":3.905863,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":1029,"node":"local","pool":"local"},"error":null}'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'completed', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-23T02:35:34.788Z","ended_at":"2026-11-23T02:35:34.831Z","queued_s":0.0,"duration_s":0.04317,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":1029,"node":"local","pool":"local"},"error":null}'),
	('01a20642-30c2-77c2-8e59-5019cb4799a6', '01900000-0000-7000-8000-000000000001', 2, 'n2', 0, 'n2', 'completed', '{"step":"n2","node_id":"n2","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-23T02:35:34.831Z","ended_at":"2026-11-23T02:35:34.935Z","queued_s":0.0,"duration_s":0.103981,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":1029,"node":"local","pool":"local"},"error":null}'),
	('01a20642-40ce-71c3-af07-fc67f8849603', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-23T02:35:34.991Z","ended_at":"2026-11-23T02:35:35.136Z","queued_s":0.0,"duration_s":0.144964,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":1029,"node":"local","pool":"local"},"error":null}'),
	('01a20642-40ce-71c3-af07-fc67f8849603', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'failed', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"failed","started_at":"2026-11-23T02:35:35.136Z","ended_at":"2026-11-23T02:35:35.211Z","queued_s":0.0,"duration_s":0.075377,"attempts":1,"tokens":0,"cost":0,"worker":{"pid":1029,"node":"local","pool":"local"},"error":{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env"}}'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-23T02:35:35.243Z","ended_at":"2026-11-23T02:35:35.266Z","queued_s":0.0,"duration_s":0.023066,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":1029,"node":"local","pool":"local"},"error":null}'),
	('01a20642-41ca-73fb-92cd-09d5f0d3db23', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'cancelled', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"cancelled","started_at":"2026-11-23T02:35:35.266Z","ended_at":"2026-11-23T02:35:36.244Z","queued_s":0.0,"duration_s":0.978109,"attempts":1,"tokens":0,"cost":0,"worker":null,"error":null}'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-23T02:35:36.264Z","ended_at":"2026-11-23T02:35:36.299Z","queued_s":0.0,"duration_s":0.035213,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":1029,"node":"local","pool":"local"},"error":null}'),
	('01a20642-45c7-737e-bd14-dbdcbfd8e9e6', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'cancelled', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"cancelled","started_at":"2026-11-23T02:35:36.299Z","ended_at":"2026-11-23T02:35:36.341Z","queued_s":0.0,"duration_s":0.041756,"attempts":1,"tokens":0,"cost":0,"worker":null,"error":null}');
INSERT INTO public.tenants VALUES
	('01900000-0000-7000-8000-000000000001', 'default', 'active', '2026-11-23 02:35:29.771324+00', '2026-11-23 02:35:29.771324+00');
SELECT pg_catalog.setval('public.blobs_made_seq', 1, false);
SELECT pg_catalog.setval('public.commands_id_seq', 2, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (key_id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_tenant_id_name_key UNIQUE (tenant_id, name);
ALTER TABLE ONLY public.blob_space
    ADD CONSTRAINT blob_space_pkey PRIMARY KEY (space);
ALTER TABLE ONLY public.blob_uses
    ADD CONSTRAINT blob_uses_pkey PRIMARY KEY (execution_id, sha256);
ALTER TABLE ONLY public.blobs
    ADD CONSTRAINT blobs_pkey PRIMARY KEY (tenant_id, sha256);
ALTER TABLE ONLY public.commands
    ADD CONSTRAINT commands_execution_id_wait_key UNIQUE (execution_id, wait);
ALTER TABLE ONLY public.commands
    ADD CONSTRAINT commands_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.coordinators
    ADD CONSTRAINT coordinators_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (execution_id);
ALTER TABLE ONLY public.executions
    ADD CONSTRAINT executions_pkey PRIMARY KEY (execution_id);
ALTER TABLE ONLY public.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (execution_id, seq);
ALTER TABLE ONLY public.snapshots
    ADD CONSTRAINT snapshots_pkey PRIMARY KEY (execution_id);
ALTER TABLE ONLY public.specs
    ADD CONSTRAINT specs_pkey PRIMARY KEY (tenant_id, content_hash);
ALTER TABLE ONLY public.steps
    ADD CONSTRAINT steps_pkey PRIMARY KEY (execution_id, step, generation);
ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_name_key UNIQUE (name);
ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);
ALTER TABLE ONLY public.waits
    ADD CONSTRAINT waits_pkey PRIMARY KEY (execution_id, wait_id);
CREATE INDEX blob_uses_by_blob ON public.blob_uses USING btree (tenant_id, sha256);
CREATE INDEX blobs_to_look_at ON public.blobs USING btree (look_at) WHERE (look_at < 'infinity'::timestamp with time zone);
CREATE INDEX executions_by_owner ON public.executions USING btree (owner, owner_epoch) WHERE (status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting'::text]));
CREATE INDEX executions_by_status ON public.executions USING btree (tenant_id, status, execution_id DESC);
CREATE INDEX executions_by_tenant ON public.executions USING btree (tenant_id, execution_id DESC);
CREATE INDEX executions_ended ON public.executions USING btree (retention_days, COALESCE(ended_at, completed_at)) WHERE (status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'timed_out'::text]));
CREATE INDEX executions_open ON public.executions USING btree (priority, created_at) WHERE (status = ANY (ARRAY['pending'::text, 'running'::text]));
CREATE INDEX executions_released ON public.executions USING btree (execution_id) WHERE ((owner IS NULL) AND (status = ANY (ARRAY['pending'::text, 'running'::text])));
CREATE INDEX executions_to_wake ON public.executions USING btree (wake_at) WHERE ((status = 'waiting'::text) AND (wake_at IS NOT NULL));
CREATE UNIQUE INDEX journal_one_end ON public.journal USING btree (execution_id, step, generation) WHERE (kind = ANY (ARRAY['step.completed'::text, 'step.failed'::text, 'step.skipped'::text, 'step.cancelled'::text, 'step.timed_out'::text]));
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.blobs
    ADD CONSTRAINT blobs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.commands
    ADD CONSTRAINT commands_execution_id_fkey FOREIGN KEY (execution_id) REFERENCES public.executions(execution_id);
ALTER TABLE ONLY public.commands
    ADD CONSTRAINT commands_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.erasures
    ADD CONSTRAINT erasures_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.executions
    ADD CONSTRAINT executions_tenant_id_content_hash_fkey FOREIGN KEY (tenant_id, content_hash) REFERENCES public.specs(tenant_id, content_hash);
ALTER TABLE ONLY public.executions
    ADD CONSTRAINT executions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.snapshots
    ADD CONSTRAINT snapshots_execution_id_fkey FOREIGN KEY (execution_id) REFERENCES public.executions(execution_id) ON DELETE CASCADE;
ALTER TABLE ONLY public.specs
    ADD CONSTRAINT specs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.steps
    ADD CONSTRAINT steps_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.waits
    ADD CONSTRAINT waits_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
