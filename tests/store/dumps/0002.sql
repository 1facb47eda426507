-- Written by the code before revision 0003: one execution in each status.
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
CREATE TABLE public.commands (
    id bigint NOT NULL,
    execution_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    wait text NOT NULL,
    kind text NOT NULL,
    payload bytea NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
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
    ended_at timestamp with time zone
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
INSERT INTO public.alembic_version VALUES
	('0002');
INSERT INTO public.api_keys VALUES
	('eJUxWgV87q1b', '01900000-0000-7000-8000-000000000001', 'bootstrap', 'not the hash of a key', 'active', NULL, NULL, '2026-11-22 22:57:43.977412+00', '2026-11-22 22:57:43.977412+00');
INSERT INTO public.commands OVERRIDING SYSTEM VALUE VALUES
	(2, '01a2057a-d948-7795-8b4e-fcf15961650b', '01900000-0000-7000-8000-000000000001', 'cancel', 'cancel', '{"reason":"enough"}', '2026-11-22 22:57:47.065262+00');
INSERT INTO public.coordinators VALUES
	('local/3377@8d6e2c09', 1795388265, '-infinity', '2026-11-22 22:57:46.493117+00'),
	('local/3422@c27f46ac', 1795388268, '-infinity', NULL);
INSERT INTO public.executions VALUES
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'completed', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 2 after answer to [step 1 after ans]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":45,"cost":0.0,"execution_time":1.231583,"metadata":{"execution_id":"exec_01a2057ace69729f9a5cd88ce618bd83","start_time":"2026-11-22T22:57:44.041Z","end_time":"2026-11-22T22:57:45.273Z"},"errors":[],"execution_path":["n0","n1","n2"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n2":{"text":"answer to [step 2 after answer to [step 1 after ans]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', '{"user_input":"go","intent":"","text_result":"answer to [step 2 after answer to [step 1 after ans]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":45,"cost":0.0,"execution_time":0.0,"metadata":{"execution_id":"exec_01a2057ace69729f9a5cd88ce618bd83","start_time":"2026-11-22T22:57:44.041Z","end_time":null},"errors":[],"execution_path":["n0","n1","n2"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n2":{"text":"answer to [step 2 after answer to [step 1 after ans]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', NULL, 45, 0.000000, 1.231583, 3, NULL, 'local/3377@8d6e2c09', 1795388264, '2026-11-22 22:57:44.063291+00', NULL, 0, '2026-11-22 22:57:44.041984+00', '2026-11-22 22:57:44.041984+00', '2026-11-22 22:57:45.273567+00', '2026-11-22 22:57:45.27684+00', 7, '2026-11-22 22:57:45.27684+00'),
	('01a2057a-d34a-7136-aad0-56d321609406', '01900000-0000-7000-8000-000000000001', '323eab3354563573c93fba038cdb1d740ee9e8ea203c0f84484301ea37e82545', 'failing', 'failed', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 0 after ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":15,"cost":0.0,"execution_time":0.122609,"metadata":{"execution_id":"exec_01a2057ad34a7136aad056d321609406","start_time":"2026-11-22T22:57:45.290Z","end_time":"2026-11-22T22:57:45.413Z"},"errors":[{"node_id":"n1","type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env","at":"2026-11-22T22:57:45.413Z"}],"execution_path":["n0","n1"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":null}}', 'null', '{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env","node_id":"n1"}', 15, 0.000000, 0.122609, 2, NULL, 'local/3377@8d6e2c09', 1795388264, '2026-11-22 22:57:45.300717+00', NULL, 0, '2026-11-22 22:57:45.290946+00', '2026-11-22 22:57:45.290946+00', '2026-11-22 22:57:45.413555+00', '2026-11-22 22:57:45.415815+00', 90, '2026-11-22 22:57:45.415815+00'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', '01900000-0000-7000-8000-000000000001', '653b0393e1c2d12447d48748a047f9843851ff3bdc56e4d35689834a87ea959b', 'hanging', 'timed_out', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 0 after ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":15,"cost":0.0,"execution_time":1.001086,"metadata":{"execution_id":"exec_01a2057ad3d671f483b967839bf2e863","start_time":"2026-11-22T22:57:45.430Z","end_time":"2026-11-22T22:57:46.431Z"},"errors":[],"execution_path":["n0"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', 'null', '{"type":"ExecutionTimedOut","message":"The execution did not end within settings.timeout_s = 1 s","node_id":null}', 15, 0.000000, 1.001086, 2, NULL, 'local/3377@8d6e2c09', 1795388264, '2026-11-22 22:57:45.431661+00', NULL, 0, '2026-11-22 22:57:45.430894+00', '2026-11-22 22:57:45.430894+00', '2026-11-22 22:57:46.43198+00', '2026-11-22 22:57:46.434091+00', 90, '2026-11-22 22:57:46.434091+00'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', '01900000-0000-7000-8000-000000000001', '6e06a5d9605af6b98022d34d7bfc73fecae22e9ae203ff5a70ae12c5a5171d0a', 'hanging', 'cancelled', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 0 after ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":15,"cost":0.0,"execution_time":0.037641,"metadata":{"execution_id":"exec_01a2057ad7ca7213b40f7066df02f912","start_time":"2026-11-22T22:57:46.443Z","end_time":"2026-11-22T22:57:46.481Z"},"errors":[],"execution_path":["n0"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', 'null', '{"type":"ExecutionCancelled","message":"Cancelled by a caller","node_id":null}', 15, 0.000000, 0.037641, 2, NULL, 'local/3377@8d6e2c09', 1795388264, '2026-11-22 22:57:46.452436+00', NULL, 0, '2026-11-22 22:57:46.443569+00', '2026-11-22 22:57:46.443569+00', '2026-11-22 22:57:46.48121+00', '2026-11-22 22:57:46.483946+00', 90, '2026-11-22 22:57:46.483946+00'),
	('01a2057a-d948-7795-8b4e-fcf15961650b', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'running', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'local/3422@c27f46ac', 1795388267, '2026-11-22 22:57:46.826283+00', NULL, 0, '2026-11-22 22:57:46.824645+00', '2026-11-22 22:57:46.824645+00', NULL, '2026-11-22 22:57:46.826284+00', 7, NULL),
	('01a2057a-d97f-70e2-af4d-334ed502573d', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'running', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'local/3422@c27f46ac', 1795388267, '2026-11-22 22:57:46.890827+00', NULL, 0, '2026-11-22 22:57:46.879336+00', '2026-11-22 22:57:46.879336+00', NULL, '2026-11-22 22:57:46.890829+00', 7, NULL),
	('01a2057a-d88d-7617-ae8b-582dee7280d3', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'pending', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'local/3422@c27f46ac', 1795388267, '2026-11-22 22:57:46.671431+00', NULL, 0, '2026-11-22 22:57:46.638096+00', '2026-11-22 22:57:46.638096+00', NULL, '2026-11-22 22:57:46.671432+00', 7, NULL),
	('01a2057a-d8c6-7327-9dd0-f4bccef78dc8', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'waiting', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'local/3422@c27f46ac', 1795388267, '2026-11-22 22:57:46.709137+00', NULL, 0, '2026-11-22 22:57:46.694626+00', '2026-11-22 22:57:46.694626+00', NULL, '2026-11-22 22:57:46.709139+00', 7, NULL),
	('01a2057a-d8ed-76e3-977b-04aefdb7002b', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'quarantined', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, NULL, NULL, '2026-11-22 22:57:46.793586+00', NULL, 3, '2026-11-22 22:57:46.734086+00', '2026-11-22 22:57:46.734086+00', NULL, '2026-11-22 22:57:46.793587+00', 7, NULL),
	('01a2057a-d959-7507-9302-82a8c7698be6', '01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', 'chain', 'running', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, NULL, NULL, '2026-11-22 22:57:46.845235+00', NULL, 0, '2026-11-22 22:57:46.841749+00', '2026-11-22 22:57:46.841749+00', NULL, '2026-11-22 22:57:46.845237+00', 7, NULL);
INSERT INTO public.journal VALUES
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', 1, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388264.0419838,"execution_id":"exec_01a2057ace69729f9a5cd88ce618bd83","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:44.041984+00'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', 2, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795388264.0419838}', '2026-11-22 22:57:44.041984+00'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', 3, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795388264.0419838,"step":"n0"}', '2026-11-22 22:57:44.041984+00'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', 4, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795388265.1711361,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3377,"node":"local","pool":"local","seconds":1.094171}}', '2026-11-22 22:57:45.171136+00'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', 5, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795388265.1711361,"step":"n1"}', '2026-11-22 22:57:45.171136+00'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', 6, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795388265.2147095,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3377,"node":"local","pool":"local","seconds":0.013237}}', '2026-11-22 22:57:45.21471+00'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', 7, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795388265.2147095,"step":"n2"}', '2026-11-22 22:57:45.21471+00'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', 8, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.completed', 'n2', 1, 0, '{"type":"step.completed","at":1795388265.2734177,"step":"n2","result":{"text":"answer to [step 2 after answer to [step 1 after ans]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 2 after answer to [step 1 after ans]"},"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3377,"node":"local","pool":"local","seconds":0.052436}}', '2026-11-22 22:57:45.273418+00'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', 9, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.completed', NULL, NULL, NULL, '{"type":"execution.completed","at":1795388265.273567,"output":{"user_input":"go","intent":"","text_result":"answer to [step 2 after answer to [step 1 after ans]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":45,"cost":0.0,"execution_time":0.0,"metadata":{"execution_id":"exec_01a2057ace69729f9a5cd88ce618bd83","start_time":"2026-11-22T22:57:44.041Z","end_time":null},"errors":[],"execution_path":["n0","n1","n2"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n2":{"text":"answer to [step 2 after answer to [step 1 after ans]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}}', '2026-11-22 22:57:45.273567+00'),
	('01a2057a-d34a-7136-aad0-56d321609406', 1, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388265.2909465,"execution_id":"exec_01a2057ad34a7136aad056d321609406","tenant":"ten_01900000000070008000000000000001","content_hash":"323eab3354563573c93fba038cdb1d740ee9e8ea203c0f84484301ea37e82545","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:45.290946+00'),
	('01a2057a-d34a-7136-aad0-56d321609406', 2, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795388265.2909465}', '2026-11-22 22:57:45.290946+00'),
	('01a2057a-d34a-7136-aad0-56d321609406', 3, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795388265.2909465,"step":"n0"}', '2026-11-22 22:57:45.290946+00'),
	('01a2057a-d34a-7136-aad0-56d321609406', 4, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795388265.357441,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3377,"node":"local","pool":"local","seconds":0.052698}}', '2026-11-22 22:57:45.357441+00'),
	('01a2057a-d34a-7136-aad0-56d321609406', 5, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795388265.357441,"step":"n1"}', '2026-11-22 22:57:45.357441+00'),
	('01a2057a-d34a-7136-aad0-56d321609406', 6, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.failed', 'n1', 1, 0, '{"type":"step.failed","at":1795388265.4135554,"step":"n1","error":{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env"},"worker":{"pid":3377,"node":"local","pool":"local","seconds":0.052743}}', '2026-11-22 22:57:45.413555+00'),
	('01a2057a-d34a-7136-aad0-56d321609406', 7, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.failed', NULL, NULL, NULL, '{"type":"execution.failed","at":1795388265.4135554,"error":{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env"},"node_id":"n1"}', '2026-11-22 22:57:45.413555+00'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', 1, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388265.4308944,"execution_id":"exec_01a2057ad3d671f483b967839bf2e863","tenant":"ten_01900000000070008000000000000001","content_hash":"653b0393e1c2d12447d48748a047f9843851ff3bdc56e4d35689834a87ea959b","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:45.430894+00'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', 2, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795388265.4308944}', '2026-11-22 22:57:45.430894+00'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', 3, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795388265.4308944,"step":"n0"}', '2026-11-22 22:57:45.430894+00'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', 4, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795388265.489389,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3377,"node":"local","pool":"local","seconds":0.052612}}', '2026-11-22 22:57:45.489389+00'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', 5, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795388265.489389,"step":"n1"}', '2026-11-22 22:57:45.489389+00'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', 6, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.cancelled', 'n1', 1, 0, '{"type":"step.cancelled","at":1795388266.4319801,"step":"n1"}', '2026-11-22 22:57:46.43198+00'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', 7, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.timed_out', NULL, NULL, NULL, '{"type":"execution.timed_out","at":1795388266.4319801,"limit_s":1.0}', '2026-11-22 22:57:46.43198+00'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', 1, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388266.4435687,"execution_id":"exec_01a2057ad7ca7213b40f7066df02f912","tenant":"ten_01900000000070008000000000000001","content_hash":"6e06a5d9605af6b98022d34d7bfc73fecae22e9ae203ff5a70ae12c5a5171d0a","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:46.443569+00'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', 2, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795388266.4435687}', '2026-11-22 22:57:46.443569+00'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', 3, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795388266.4435687,"step":"n0"}', '2026-11-22 22:57:46.443569+00'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', 4, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795388266.4684622,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3377,"node":"local","pool":"local","seconds":0.011645}}', '2026-11-22 22:57:46.468462+00'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', 5, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795388266.4684622,"step":"n1"}', '2026-11-22 22:57:46.468462+00'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', 6, '01900000-0000-7000-8000-000000000001', 1795388264, 'step.cancelled', 'n1', 1, 0, '{"type":"step.cancelled","at":1795388266.48121,"step":"n1"}', '2026-11-22 22:57:46.48121+00'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', 7, '01900000-0000-7000-8000-000000000001', 1795388264, 'execution.cancelled', NULL, NULL, NULL, '{"type":"execution.cancelled","at":1795388266.48121,"reason":"enough"}', '2026-11-22 22:57:46.48121+00'),
	('01a2057a-d88d-7617-ae8b-582dee7280d3', 1, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388266.6380956,"execution_id":"exec_01a2057ad88d7617ae8b582dee7280d3","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:46.638096+00'),
	('01a2057a-d8c6-7327-9dd0-f4bccef78dc8', 1, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388266.694626,"execution_id":"exec_01a2057ad8c673279dd0f4bccef78dc8","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:46.694626+00'),
	('01a2057a-d8c6-7327-9dd0-f4bccef78dc8', 2, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795388266.694626}', '2026-11-22 22:57:46.694626+00'),
	('01a2057a-d8c6-7327-9dd0-f4bccef78dc8', 3, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795388266.694626,"step":"n0"}', '2026-11-22 22:57:46.694626+00'),
	('01a2057a-d8c6-7327-9dd0-f4bccef78dc8', 4, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795388266.7821069,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.057099}}', '2026-11-22 22:57:46.782107+00'),
	('01a2057a-d8c6-7327-9dd0-f4bccef78dc8', 5, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795388266.7821069,"step":"n1"}', '2026-11-22 22:57:46.782107+00'),
	('01a2057a-d8ed-76e3-977b-04aefdb7002b', 1, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388266.7340858,"execution_id":"exec_01a2057ad8ed76e3977b04aefdb7002b","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:46.734086+00'),
	('01a2057a-d8ed-76e3-977b-04aefdb7002b', 2, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795388266.7340858}', '2026-11-22 22:57:46.734086+00'),
	('01a2057a-d8ed-76e3-977b-04aefdb7002b', 3, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795388266.7340858,"step":"n0"}', '2026-11-22 22:57:46.734086+00'),
	('01a2057a-d948-7795-8b4e-fcf15961650b', 1, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388266.8246453,"execution_id":"exec_01a2057ad94877958b4efcf15961650b","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:46.824645+00'),
	('01a2057a-d948-7795-8b4e-fcf15961650b', 2, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795388266.8246453}', '2026-11-22 22:57:46.824645+00'),
	('01a2057a-d948-7795-8b4e-fcf15961650b', 3, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795388266.8246453,"step":"n0"}', '2026-11-22 22:57:46.824645+00'),
	('01a2057a-d8c6-7327-9dd0-f4bccef78dc8', 6, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795388266.848436,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.054801}}', '2026-11-22 22:57:46.848436+00'),
	('01a2057a-d8c6-7327-9dd0-f4bccef78dc8', 7, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795388266.848436,"step":"n2"}', '2026-11-22 22:57:46.848436+00'),
	('01a2057a-d959-7507-9302-82a8c7698be6', 1, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388266.8417487,"execution_id":"exec_01a2057ad9597507930282a8c7698be6","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:46.841749+00'),
	('01a2057a-d959-7507-9302-82a8c7698be6', 2, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795388266.8417487}', '2026-11-22 22:57:46.841749+00'),
	('01a2057a-d959-7507-9302-82a8c7698be6', 3, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795388266.8417487,"step":"n0"}', '2026-11-22 22:57:46.841749+00'),
	('01a2057a-d948-7795-8b4e-fcf15961650b', 4, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795388266.8533618,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.017507}}', '2026-11-22 22:57:46.853362+00'),
	('01a2057a-d948-7795-8b4e-fcf15961650b', 5, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795388266.8533618,"step":"n1"}', '2026-11-22 22:57:46.853362+00'),
	('01a2057a-d959-7507-9302-82a8c7698be6', 6, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795388266.9323308,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.016749}}', '2026-11-22 22:57:46.932331+00'),
	('01a2057a-d959-7507-9302-82a8c7698be6', 7, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795388266.9323308,"step":"n2"}', '2026-11-22 22:57:46.932331+00'),
	('01a2057a-d97f-70e2-af4d-334ed502573d', 4, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795388266.9542515,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.053278}}', '2026-11-22 22:57:46.954252+00'),
	('01a2057a-d97f-70e2-af4d-334ed502573d', 5, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795388266.9542515,"step":"n1"}', '2026-11-22 22:57:46.954252+00'),
	('01a2057a-d8ed-76e3-977b-04aefdb7002b', 6, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795388266.9905498,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.076941}}', '2026-11-22 22:57:46.99055+00'),
	('01a2057a-d8ed-76e3-977b-04aefdb7002b', 7, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795388266.9905498,"step":"n2"}', '2026-11-22 22:57:46.99055+00'),
	('01a2057a-d97f-70e2-af4d-334ed502573d', 6, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795388267.005183,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.008584}}', '2026-11-22 22:57:47.005183+00'),
	('01a2057a-d97f-70e2-af4d-334ed502573d', 7, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795388267.005183,"step":"n2"}', '2026-11-22 22:57:47.005183+00'),
	('01a2057a-d97f-70e2-af4d-334ed502573d', 1, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795388266.8793359,"execution_id":"exec_01a2057ad97f70e2af4d334ed502573d","tenant":"ten_01900000000070008000000000000001","content_hash":"7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d","initial_state":{"user_input":"go"}}', '2026-11-22 22:57:46.879336+00'),
	('01a2057a-d97f-70e2-af4d-334ed502573d', 2, '01900000-0000-7000-8000-000000000001', 1795388267, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795388266.8793359}', '2026-11-22 22:57:46.879336+00'),
	('01a2057a-d97f-70e2-af4d-334ed502573d', 3, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795388266.8793359,"step":"n0"}', '2026-11-22 22:57:46.879336+00'),
	('01a2057a-d8ed-76e3-977b-04aefdb7002b', 4, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795388266.8888996,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.083959}}', '2026-11-22 22:57:46.8889+00'),
	('01a2057a-d8ed-76e3-977b-04aefdb7002b', 5, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795388266.8888996,"step":"n1"}', '2026-11-22 22:57:46.8889+00'),
	('01a2057a-d959-7507-9302-82a8c7698be6', 4, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795388266.893437,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.025791}}', '2026-11-22 22:57:46.893437+00'),
	('01a2057a-d959-7507-9302-82a8c7698be6', 5, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795388266.893437,"step":"n1"}', '2026-11-22 22:57:46.893437+00'),
	('01a2057a-d948-7795-8b4e-fcf15961650b', 6, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795388266.9296894,"step":"n1","result":{"text":"answer to [step 1 after answer to [step 0 after ]]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer to [step 0 after ]]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":3422,"node":"local","pool":"local","seconds":0.064072}}', '2026-11-22 22:57:46.929689+00'),
	('01a2057a-d948-7795-8b4e-fcf15961650b', 7, '01900000-0000-7000-8000-000000000001', 1795388267, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795388266.9296894,"step":"n2"}', '2026-11-22 22:57:46.929689+00');
INSERT INTO public.specs VALUES
	('01900000-0000-7000-8000-000000000001', '7f5911b33e6c83fe16eec647851981bbb3c95ce7a3c75c793bd629b9ce04a06d', '{"name":"chain","nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"step 1 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false},"retry":{"max_attempts":1}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","settings":{"retention_days":7}}', '2026-11-22 22:57:44.044267+00'),
	('01900000-0000-7000-8000-000000000001', '323eab3354563573c93fba038cdb1d740ee9e8ea203c0f84484301ea37e82545', '{"name":"failing","nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"please fail","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false},"retry":{"max_attempts":1}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","settings":{}}', '2026-11-22 22:57:45.291224+00'),
	('01900000-0000-7000-8000-000000000001', '653b0393e1c2d12447d48748a047f9843851ff3bdc56e4d35689834a87ea959b', '{"name":"hanging","nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"please hang","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false},"retry":{"max_attempts":1}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","settings":{"timeout_s":1}}', '2026-11-22 22:57:45.431178+00'),
	('01900000-0000-7000-8000-000000000001', '6e06a5d9605af6b98022d34d7bfc73fecae22e9ae203ff5a70ae12c5a5171d0a', '{"name":"hanging","nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false},"retry":{"max_attempts":1}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"please hang","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false},"retry":{"max_attempts":1}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","settings":{}}', '2026-11-22 22:57:46.443905+00');
INSERT INTO public.steps VALUES
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T22:57:44.041Z","ended_at":"2026-11-22T22:57:45.171Z","queued_s":0.0,"duration_s":1.129152,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":3377,"node":"local","pool":"local"},"error":null}'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'completed', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T22:57:45.171Z","ended_at":"2026-11-22T22:57:45.214Z","queued_s":0.0,"duration_s":0.043573,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":3377,"node":"local","pool":"local"},"error":null}'),
	('01a2057a-ce69-729f-9a5c-d88ce618bd83', '01900000-0000-7000-8000-000000000001', 2, 'n2', 0, 'n2', 'completed', '{"step":"n2","node_id":"n2","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T22:57:45.214Z","ended_at":"2026-11-22T22:57:45.273Z","queued_s":0.0,"duration_s":0.058708,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":3377,"node":"local","pool":"local"},"error":null}'),
	('01a2057a-d34a-7136-aad0-56d321609406', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T22:57:45.290Z","ended_at":"2026-11-22T22:57:45.357Z","queued_s":0.0,"duration_s":0.066494,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":3377,"node":"local","pool":"local"},"error":null}'),
	('01a2057a-d34a-7136-aad0-56d321609406', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'failed', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"failed","started_at":"2026-11-22T22:57:45.357Z","ended_at":"2026-11-22T22:57:45.413Z","queued_s":0.0,"duration_s":0.056114,"attempts":1,"tokens":0,"cost":0,"worker":{"pid":3377,"node":"local","pool":"local"},"error":{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env"}}'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T22:57:45.430Z","ended_at":"2026-11-22T22:57:45.489Z","queued_s":0.0,"duration_s":0.058495,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":3377,"node":"local","pool":"local"},"error":null}'),
	('01a2057a-d3d6-71f4-83b9-67839bf2e863', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'cancelled', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"cancelled","started_at":"2026-11-22T22:57:45.489Z","ended_at":"2026-11-22T22:57:46.431Z","queued_s":0.0,"duration_s":0.942591,"attempts":1,"tokens":0,"cost":0,"worker":null,"error":null}'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T22:57:46.443Z","ended_at":"2026-11-22T22:57:46.468Z","queued_s":0.0,"duration_s":0.024894,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":3377,"node":"local","pool":"local"},"error":null}'),
	('01a2057a-d7ca-7213-b40f-7066df02f912', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'cancelled', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"cancelled","started_at":"2026-11-22T22:57:46.468Z","ended_at":"2026-11-22T22:57:46.481Z","queued_s":0.0,"duration_s":0.012748,"attempts":1,"tokens":0,"cost":0,"worker":null,"error":null}');
INSERT INTO public.tenants VALUES
	('01900000-0000-7000-8000-000000000001', 'default', 'active', '2026-11-22 22:57:43.888455+00', '2026-11-22 22:57:43.888455+00');
SELECT pg_catalog.setval('public.commands_id_seq', 2, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (key_id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_tenant_id_name_key UNIQUE (tenant_id, name);
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
ALTER TABLE ONLY public.specs
    ADD CONSTRAINT specs_pkey PRIMARY KEY (tenant_id, content_hash);
ALTER TABLE ONLY public.steps
    ADD CONSTRAINT steps_pkey PRIMARY KEY (execution_id, step, generation);
ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_name_key UNIQUE (name);
ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);
CREATE INDEX executions_by_owner ON public.executions USING btree (owner, owner_epoch) WHERE (status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting'::text]));
CREATE INDEX executions_by_status ON public.executions USING btree (tenant_id, status, execution_id DESC);
CREATE INDEX executions_by_tenant ON public.executions USING btree (tenant_id, execution_id DESC);
CREATE INDEX executions_ended ON public.executions USING btree (retention_days, COALESCE(ended_at, completed_at)) WHERE (status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text, 'timed_out'::text]));
CREATE INDEX executions_open ON public.executions USING btree (priority, created_at) WHERE (status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting'::text]));
CREATE UNIQUE INDEX journal_one_end ON public.journal USING btree (execution_id, step, generation) WHERE (kind = ANY (ARRAY['step.completed'::text, 'step.failed'::text, 'step.skipped'::text, 'step.cancelled'::text, 'step.timed_out'::text]));
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
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
ALTER TABLE ONLY public.specs
    ADD CONSTRAINT specs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.steps
    ADD CONSTRAINT steps_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
