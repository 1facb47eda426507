-- Written by the code before revision 0002, with pg_dump: one execution in each status.
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
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
    lease_until timestamp with time zone NOT NULL
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
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
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
	('0001');
INSERT INTO public.api_keys VALUES
	('9aeZD9HfZEgu', '01900000-0000-7000-8000-000000000001', 'bootstrap', 'not the hash of a key', 'active', NULL, NULL, '2026-11-22 20:56:38.240326+00', '2026-11-22 20:56:38.240326+00');
INSERT INTO public.commands OVERRIDING SYSTEM VALUE VALUES
	(2, '01a2050b-ff93-72db-846f-0454eb4d8615', '01900000-0000-7000-8000-000000000001', 'cancel', 'cancel', '{"reason":"enough"}', '2026-11-22 20:56:42.147887+00');
INSERT INTO public.coordinators VALUES
	('local/6866@9d076789', 1, '-infinity'),
	('af/coordinator/0@0a1b2c3d', 2, '-infinity');
INSERT INTO public.executions VALUES
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', '01900000-0000-7000-8000-000000000001', 'f88c0ef8aceabc26a189dfe81fcb31f1149628e75de3d265508b0d8b0eafb7c3', 'failing', 'failed', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 0 after ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":15,"cost":0.0,"execution_time":0.556725,"metadata":{"execution_id":"exec_01a2050bf88577d49c65b7d5879ea4a3","start_time":"2026-11-22T20:56:40.325Z","end_time":"2026-11-22T20:56:40.882Z"},"errors":[{"node_id":"n1","type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env","at":"2026-11-22T20:56:40.882Z"}],"execution_path":["n0","n1"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":null}}', 'null', '{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env","node_id":"n1"}', 15, 0.000000, 0.556725, 2, NULL, 'local/6866@9d076789', 1, '2026-11-22 20:56:40.547362+00', NULL, 0, '2026-11-22 20:56:40.325822+00', '2026-11-22 20:56:40.325822+00', '2026-11-22 20:56:40.882546+00', '2026-11-22 20:56:40.899145+00'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', '01900000-0000-7000-8000-000000000001', '578733944a274e69b00d4377b68d8a6fde92fd401afa5e341558a6aa476760b3', 'hanging', 'cancelled', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 0 after ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":15,"cost":0.0,"execution_time":0.11483,"metadata":{"execution_id":"exec_01a2050bfa6e76e8a51e3f9f9cde4a01","start_time":"2026-11-22T20:56:40.817Z","end_time":"2026-11-22T20:56:40.932Z"},"errors":[],"execution_path":["n0"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', 'null', '{"type":"ExecutionCancelled","message":"Cancelled by a caller","node_id":null}', 15, 0.000000, 0.11483, 2, NULL, 'local/6866@9d076789', 1, '2026-11-22 20:56:40.823331+00', NULL, 0, '2026-11-22 20:56:40.817433+00', '2026-11-22 20:56:40.817433+00', '2026-11-22 20:56:40.932263+00', '2026-11-22 20:56:40.947819+00'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', '01900000-0000-7000-8000-000000000001', '83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284', 'chain', 'completed', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 2 after answer ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":45,"cost":0.0,"execution_time":2.562229,"metadata":{"execution_id":"exec_01a2050bf1157614ba9a08376f6d9878","start_time":"2026-11-22T20:56:38.423Z","end_time":"2026-11-22T20:56:40.985Z"},"errors":[],"execution_path":["n0","n1","n2"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":{"text":"answer to [step 1 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n2":{"text":"answer to [step 2 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', '{"user_input":"go","intent":"","text_result":"answer to [step 2 after answer ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":45,"cost":0.0,"execution_time":0.0,"metadata":{"execution_id":"exec_01a2050bf1157614ba9a08376f6d9878","start_time":"2026-11-22T20:56:38.423Z","end_time":null},"errors":[],"execution_path":["n0","n1","n2"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":{"text":"answer to [step 1 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n2":{"text":"answer to [step 2 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', NULL, 45, 0.000000, 2.562229, 3, NULL, 'local/6866@9d076789', 1, '2026-11-22 20:56:38.483848+00', NULL, 0, '2026-11-22 20:56:38.423318+00', '2026-11-22 20:56:38.423318+00', '2026-11-22 20:56:40.985548+00', '2026-11-22 20:56:40.988162+00'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', '01900000-0000-7000-8000-000000000001', '9b81f10f0edf2a1be0e95d22fe9a5ea54a8e502a8fdf9fa794f75b8372976fa0', 'hanging', 'timed_out', 3, '{"user_input":"go"}', '{}', '{"user_input":"go","intent":"","text_result":"answer to [step 0 after ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":15,"cost":0.0,"execution_time":1.007136,"metadata":{"execution_id":"exec_01a2050bfa9f71649e2ba3333a42c7d2","start_time":"2026-11-22T20:56:40.864Z","end_time":"2026-11-22T20:56:41.871Z"},"errors":[],"execution_path":["n0"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}', 'null', '{"type":"ExecutionTimedOut","message":"The execution did not end within settings.timeout_s = 1 s","node_id":null}', 15, 0.000000, 1.007136, 2, NULL, 'local/6866@9d076789', 1, '2026-11-22 20:56:40.88626+00', NULL, 0, '2026-11-22 20:56:40.864297+00', '2026-11-22 20:56:40.864297+00', '2026-11-22 20:56:41.871433+00', '2026-11-22 20:56:41.909533+00'),
	('01a2050b-ff5e-73e6-b888-08fa1d50e684', '01900000-0000-7000-8000-000000000001', '83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284', 'chain', 'pending', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'af/coordinator/0@0a1b2c3d', 1, '2026-11-22 20:56:42.091558+00', NULL, 0, '2026-11-22 20:56:38.423318+00', NULL, NULL, '2026-11-22 20:56:42.091559+00'),
	('01a2050b-ff7e-75d5-9ca5-5389222ec5d1', '01900000-0000-7000-8000-000000000001', '83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284', 'chain', 'running', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'af/coordinator/0@0a1b2c3d', 1, '2026-11-22 20:56:42.111655+00', NULL, 0, '2026-11-22 20:56:38.423318+00', '2026-11-22 20:56:38.423318+00', NULL, '2026-11-22 20:56:42.111656+00'),
	('01a2050b-ff93-72db-846f-0454eb4d8615', '01900000-0000-7000-8000-000000000001', '83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284', 'chain', 'running', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'af/coordinator/0@0a1b2c3d', 1, '2026-11-22 20:56:42.131552+00', NULL, 0, '2026-11-22 20:56:38.423318+00', '2026-11-22 20:56:38.423318+00', NULL, '2026-11-22 20:56:42.131554+00'),
	('01a2050b-ff89-7742-86ea-60ad2ff1f511', '01900000-0000-7000-8000-000000000001', '83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284', 'chain', 'waiting', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, 'af/coordinator/0@0a1b2c3d', 1, '2026-11-22 20:56:42.122462+00', NULL, 0, '2026-11-22 20:56:38.423318+00', '2026-11-22 20:56:38.423318+00', NULL, '2026-11-22 20:56:42.122463+00'),
	('01a2050b-ff8f-71c4-87b6-925943f8ce4e', '01900000-0000-7000-8000-000000000001', '83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284', 'chain', 'quarantined', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, NULL, NULL, '2026-11-22 20:56:42.127654+00', NULL, 3, '2026-11-22 20:56:38.423318+00', '2026-11-22 20:56:38.423318+00', NULL, '2026-11-22 20:56:42.127655+00'),
	('01a2050b-ff95-71a2-b308-5c03be828662', '01900000-0000-7000-8000-000000000001', '83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284', 'chain', 'running', 3, '{"user_input":"go"}', '{}', NULL, NULL, NULL, 0, 0.000000, 0, 0, NULL, NULL, NULL, '2026-11-22 20:56:42.133984+00', NULL, 0, '2026-11-22 20:56:38.423318+00', '2026-11-22 20:56:38.423318+00', NULL, '2026-11-22 20:56:42.133985+00');
INSERT INTO public.journal VALUES
	('01a2050b-f115-7614-ba9a-08376f6d9878', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795380998.4233184,"execution_id":"exec_01a2050bf1157614ba9a08376f6d9878","tenant":"ten_01900000000070008000000000000001","content_hash":"83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', 2, '01900000-0000-7000-8000-000000000001', 1, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795380998.4233184}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', 3, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795380998.4233184,"step":"n0"}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795381000.3258216,"execution_id":"exec_01a2050bf88577d49c65b7d5879ea4a3","tenant":"ten_01900000000070008000000000000001","content_hash":"f88c0ef8aceabc26a189dfe81fcb31f1149628e75de3d265508b0d8b0eafb7c3","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:40.325822+00'),
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', 2, '01900000-0000-7000-8000-000000000001', 1, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795381000.3258216}', '2026-11-22 20:56:40.325822+00'),
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', 3, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795381000.3258216,"step":"n0"}', '2026-11-22 20:56:40.325822+00'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795381000.8174326,"execution_id":"exec_01a2050bfa6e76e8a51e3f9f9cde4a01","tenant":"ten_01900000000070008000000000000001","content_hash":"578733944a274e69b00d4377b68d8a6fde92fd401afa5e341558a6aa476760b3","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:40.817433+00'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', 2, '01900000-0000-7000-8000-000000000001', 1, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795381000.8174326}', '2026-11-22 20:56:40.817433+00'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', 3, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795381000.8174326,"step":"n0"}', '2026-11-22 20:56:40.817433+00'),
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', 4, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795381000.8261483,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.02181}}', '2026-11-22 20:56:40.826148+00'),
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', 5, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795381000.8261483,"step":"n1"}', '2026-11-22 20:56:40.826148+00'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795381000.8642972,"execution_id":"exec_01a2050bfa9f71649e2ba3333a42c7d2","tenant":"ten_01900000000070008000000000000001","content_hash":"9b81f10f0edf2a1be0e95d22fe9a5ea54a8e502a8fdf9fa794f75b8372976fa0","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:40.864297+00'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', 2, '01900000-0000-7000-8000-000000000001', 1, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795381000.8642972}', '2026-11-22 20:56:40.864297+00'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', 3, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795381000.8642972,"step":"n0"}', '2026-11-22 20:56:40.864297+00'),
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', 6, '01900000-0000-7000-8000-000000000001', 1, 'step.failed', 'n1', 1, 0, '{"type":"step.failed","at":1795381000.8825462,"step":"n1","error":{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env"},"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.0104}}', '2026-11-22 20:56:40.882546+00'),
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', 7, '01900000-0000-7000-8000-000000000001', 1, 'execution.failed', NULL, NULL, NULL, '{"type":"execution.failed","at":1795381000.8825462,"error":{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env"},"node_id":"n1"}', '2026-11-22 20:56:40.882546+00'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', 4, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795381000.7982004,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":2.293218}}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', 5, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795381000.7982004,"step":"n1"}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', 6, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795381000.9139016,"step":"n1","result":{"text":"answer to [step 1 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer ]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.00976}}', '2026-11-22 20:56:40.913902+00'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', 7, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n2', 1, 0, '{"type":"step.started","at":1795381000.9139016,"step":"n2"}', '2026-11-22 20:56:40.913902+00'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', 4, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795381000.915222,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.066767}}', '2026-11-22 20:56:40.915222+00'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', 5, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795381000.915222,"step":"n1"}', '2026-11-22 20:56:40.915222+00'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', 6, '01900000-0000-7000-8000-000000000001', 1, 'step.cancelled', 'n1', 1, 0, '{"type":"step.cancelled","at":1795381000.9322627,"step":"n1"}', '2026-11-22 20:56:40.932263+00'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', 7, '01900000-0000-7000-8000-000000000001', 1, 'execution.cancelled', NULL, NULL, NULL, '{"type":"execution.cancelled","at":1795381000.9322627,"reason":"enough"}', '2026-11-22 20:56:40.932263+00'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', 4, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795381000.9397597,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.04475}}', '2026-11-22 20:56:40.93976+00'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', 5, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795381000.9397597,"step":"n1"}', '2026-11-22 20:56:40.93976+00'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', 8, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n2', 1, 0, '{"type":"step.completed","at":1795381000.9854088,"step":"n2","result":{"text":"answer to [step 2 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 2 after answer ]"},"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.06651}}', '2026-11-22 20:56:40.985409+00'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', 9, '01900000-0000-7000-8000-000000000001', 1, 'execution.completed', NULL, NULL, NULL, '{"type":"execution.completed","at":1795381000.9855478,"output":{"user_input":"go","intent":"","text_result":"answer to [step 2 after answer ]","image_result":null,"api_result":null,"db_result":[],"final_output":null,"tokens_used":45,"cost":0.0,"execution_time":0.0,"metadata":{"execution_id":"exec_01a2050bf1157614ba9a08376f6d9878","start_time":"2026-11-22T20:56:38.423Z","end_time":null},"errors":[],"execution_path":["n0","n1","n2"],"outputs":{"n0":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n1":{"text":"answer to [step 1 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"n2":{"text":"answer to [step 2 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1}}}}', '2026-11-22 20:56:40.985548+00'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', 6, '01900000-0000-7000-8000-000000000001', 1, 'step.cancelled', 'n1', 1, 0, '{"type":"step.cancelled","at":1795381001.871433,"step":"n1"}', '2026-11-22 20:56:41.871433+00'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', 7, '01900000-0000-7000-8000-000000000001', 1, 'execution.timed_out', NULL, NULL, NULL, '{"type":"execution.timed_out","at":1795381001.871433,"limit_s":1.0}', '2026-11-22 20:56:41.871433+00'),
	('01a2050b-ff5e-73e6-b888-08fa1d50e684', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795380998.4233184,"execution_id":"exec_01a2050bff5e73e6b88808fa1d50e684","tenant":"ten_01900000000070008000000000000001","content_hash":"83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff7e-75d5-9ca5-5389222ec5d1', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795380998.4233184,"execution_id":"exec_01a2050bff7e75d59ca55389222ec5d1","tenant":"ten_01900000000070008000000000000001","content_hash":"83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff7e-75d5-9ca5-5389222ec5d1', 2, '01900000-0000-7000-8000-000000000001', 1, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795380998.4233184}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff7e-75d5-9ca5-5389222ec5d1', 3, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795380998.4233184,"step":"n0"}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff7e-75d5-9ca5-5389222ec5d1', 4, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795381000.7982004,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":2.293218}}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-ff7e-75d5-9ca5-5389222ec5d1', 5, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795381000.7982004,"step":"n1"}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-ff7e-75d5-9ca5-5389222ec5d1', 6, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795381000.9139016,"step":"n1","result":{"text":"answer to [step 1 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer ]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.00976}}', '2026-11-22 20:56:40.913902+00'),
	('01a2050b-ff89-7742-86ea-60ad2ff1f511', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795380998.4233184,"execution_id":"exec_01a2050bff89774286ea60ad2ff1f511","tenant":"ten_01900000000070008000000000000001","content_hash":"83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff89-7742-86ea-60ad2ff1f511', 2, '01900000-0000-7000-8000-000000000001', 1, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795380998.4233184}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff89-7742-86ea-60ad2ff1f511', 3, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795380998.4233184,"step":"n0"}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff89-7742-86ea-60ad2ff1f511', 4, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795381000.7982004,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":2.293218}}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-ff89-7742-86ea-60ad2ff1f511', 5, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795381000.7982004,"step":"n1"}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-ff89-7742-86ea-60ad2ff1f511', 6, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795381000.9139016,"step":"n1","result":{"text":"answer to [step 1 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer ]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.00976}}', '2026-11-22 20:56:40.913902+00'),
	('01a2050b-ff8f-71c4-87b6-925943f8ce4e', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795380998.4233184,"execution_id":"exec_01a2050bff8f71c487b6925943f8ce4e","tenant":"ten_01900000000070008000000000000001","content_hash":"83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff8f-71c4-87b6-925943f8ce4e', 2, '01900000-0000-7000-8000-000000000001', 1, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795380998.4233184}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff8f-71c4-87b6-925943f8ce4e', 3, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795380998.4233184,"step":"n0"}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff8f-71c4-87b6-925943f8ce4e', 4, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795381000.7982004,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":2.293218}}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-ff8f-71c4-87b6-925943f8ce4e', 5, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795381000.7982004,"step":"n1"}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-ff8f-71c4-87b6-925943f8ce4e', 6, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795381000.9139016,"step":"n1","result":{"text":"answer to [step 1 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer ]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.00976}}', '2026-11-22 20:56:40.913902+00'),
	('01a2050b-ff93-72db-846f-0454eb4d8615', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795380998.4233184,"execution_id":"exec_01a2050bff9372db846f0454eb4d8615","tenant":"ten_01900000000070008000000000000001","content_hash":"83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff93-72db-846f-0454eb4d8615', 2, '01900000-0000-7000-8000-000000000001', 1, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795380998.4233184}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff93-72db-846f-0454eb4d8615', 3, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795380998.4233184,"step":"n0"}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff93-72db-846f-0454eb4d8615', 4, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795381000.7982004,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":2.293218}}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-ff93-72db-846f-0454eb4d8615', 5, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795381000.7982004,"step":"n1"}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-ff93-72db-846f-0454eb4d8615', 6, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n1', 1, 0, '{"type":"step.completed","at":1795381000.9139016,"step":"n1","result":{"text":"answer to [step 1 after answer ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 1 after answer ]"},"taken":[1],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":0.00976}}', '2026-11-22 20:56:40.913902+00'),
	('01a2050b-ff95-71a2-b308-5c03be828662', 1, '01900000-0000-7000-8000-000000000001', 1, 'execution.created', NULL, NULL, NULL, '{"type":"execution.created","at":1795380998.4233184,"execution_id":"exec_01a2050bff9571a2b3085c03be828662","tenant":"ten_01900000000070008000000000000001","content_hash":"83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284","initial_state":{"user_input":"go"}}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff95-71a2-b308-5c03be828662', 2, '01900000-0000-7000-8000-000000000001', 1, 'execution.started', NULL, NULL, NULL, '{"type":"execution.started","at":1795380998.4233184}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff95-71a2-b308-5c03be828662', 3, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n0', 1, 0, '{"type":"step.started","at":1795380998.4233184,"step":"n0"}', '2026-11-22 20:56:38.423318+00'),
	('01a2050b-ff95-71a2-b308-5c03be828662', 4, '01900000-0000-7000-8000-000000000001', 1, 'step.completed', 'n0', 1, 0, '{"type":"step.completed","at":1795381000.7982004,"step":"n0","result":{"text":"answer to [step 0 after ]","model":"m","provider":"openai-compatible","finish_reason":"stop","usage":{"input_tokens":10,"output_tokens":5,"cached_tokens":0,"estimated":false},"cost":0.0,"attempts":1},"delta":{"text_result":"answer to [step 0 after ]"},"taken":[0],"calls":[{"source":"m","provider":"openai-compatible","model":"m","usage":{"input_tokens":10,"output_tokens":5},"cost":0.0}],"worker":{"pid":6866,"node":"local","pool":"local","seconds":2.293218}}', '2026-11-22 20:56:40.7982+00'),
	('01a2050b-ff95-71a2-b308-5c03be828662', 5, '01900000-0000-7000-8000-000000000001', 1, 'step.started', 'n1', 1, 0, '{"type":"step.started","at":1795381000.7982004,"step":"n1"}', '2026-11-22 20:56:40.7982+00');
INSERT INTO public.specs VALUES
	('01900000-0000-7000-8000-000000000001', '83083097711b687a18f6d199bc0082ff280188983ff078fff9fe6a7a5c429284', '{"nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"step 1 after {text_result}","stream":false}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","name":"chain","settings":{"retention_days":7}}', '2026-11-22 20:56:38.451999+00'),
	('01900000-0000-7000-8000-000000000001', 'f88c0ef8aceabc26a189dfe81fcb31f1149628e75de3d265508b0d8b0eafb7c3', '{"nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"please fail","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","name":"failing"}', '2026-11-22 20:56:40.462983+00'),
	('01900000-0000-7000-8000-000000000001', '578733944a274e69b00d4377b68d8a6fde92fd401afa5e341558a6aa476760b3', '{"nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"please hang","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","name":"hanging"}', '2026-11-22 20:56:40.818196+00'),
	('01900000-0000-7000-8000-000000000001', '9b81f10f0edf2a1be0e95d22fe9a5ea54a8e502a8fdf9fa794f75b8372976fa0', '{"nodes":[{"id":"n0","type":"llm","metadata":{"source":"m","prompt":"step 0 after {text_result}","stream":false}},{"id":"n1","type":"llm","metadata":{"source":"m","prompt":"please hang","stream":false},"retry":{"max_attempts":1}},{"id":"n2","type":"llm","metadata":{"source":"m","prompt":"step 2 after {text_result}","stream":false}}],"edges":[{"from":"n0","to":"n1"},{"from":"n1","to":"n2"}],"sources":[{"id":"m","kind":"llm","config":{"provider":"openai-compatible","model":"m","base_url":"http://127.0.0.1:45999/v1"}}],"start_node":"n0","name":"hanging","settings":{"timeout_s":1}}', '2026-11-22 20:56:40.871986+00');
INSERT INTO public.steps VALUES
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T20:56:40.325Z","ended_at":"2026-11-22T20:56:40.826Z","queued_s":0.0,"duration_s":0.500327,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":6866,"node":"local","pool":"local"},"error":null}'),
	('01a2050b-f885-77d4-9c65-b7d5879ea4a3', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'failed', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"failed","started_at":"2026-11-22T20:56:40.826Z","ended_at":"2026-11-22T20:56:40.882Z","queued_s":0.0,"duration_s":0.056398,"attempts":1,"tokens":0,"cost":0,"worker":{"pid":6866,"node":"local","pool":"local"},"error":{"type":"ProviderAuthError","message":"Model ''m'' at http://127.0.0.1:45999/v1 refused a call without a credential with 401; name one with api_key_env"}}'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T20:56:40.817Z","ended_at":"2026-11-22T20:56:40.915Z","queued_s":0.0,"duration_s":0.097789,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":6866,"node":"local","pool":"local"},"error":null}'),
	('01a2050b-fa6e-76e8-a51e-3f9f9cde4a01', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'cancelled', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"cancelled","started_at":"2026-11-22T20:56:40.915Z","ended_at":"2026-11-22T20:56:40.932Z","queued_s":0.0,"duration_s":0.017041,"attempts":1,"tokens":0,"cost":0,"worker":null,"error":null}'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T20:56:38.423Z","ended_at":"2026-11-22T20:56:40.798Z","queued_s":0.0,"duration_s":2.374882,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":6866,"node":"local","pool":"local"},"error":null}'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'completed', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T20:56:40.798Z","ended_at":"2026-11-22T20:56:40.913Z","queued_s":0.0,"duration_s":0.115701,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":6866,"node":"local","pool":"local"},"error":null}'),
	('01a2050b-f115-7614-ba9a-08376f6d9878', '01900000-0000-7000-8000-000000000001', 2, 'n2', 0, 'n2', 'completed', '{"step":"n2","node_id":"n2","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T20:56:40.913Z","ended_at":"2026-11-22T20:56:40.985Z","queued_s":0.0,"duration_s":0.071507,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":6866,"node":"local","pool":"local"},"error":null}'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', '01900000-0000-7000-8000-000000000001', 0, 'n0', 0, 'n0', 'completed', '{"step":"n0","node_id":"n0","type":"llm","iteration":null,"index":null,"generation":0,"status":"completed","started_at":"2026-11-22T20:56:40.864Z","ended_at":"2026-11-22T20:56:40.939Z","queued_s":0.0,"duration_s":0.075463,"attempts":1,"tokens":15,"cost":0.0,"worker":{"pid":6866,"node":"local","pool":"local"},"error":null}'),
	('01a2050b-fa9f-7164-9e2b-a3333a42c7d2', '01900000-0000-7000-8000-000000000001', 1, 'n1', 0, 'n1', 'cancelled', '{"step":"n1","node_id":"n1","type":"llm","iteration":null,"index":null,"generation":0,"status":"cancelled","started_at":"2026-11-22T20:56:40.939Z","ended_at":"2026-11-22T20:56:41.871Z","queued_s":0.0,"duration_s":0.931673,"attempts":1,"tokens":0,"cost":0,"worker":null,"error":null}');
INSERT INTO public.tenants VALUES
	('01900000-0000-7000-8000-000000000001', 'default', 'active', '2026-11-22 20:56:37.985813+00', '2026-11-22 20:56:37.985813+00');
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
CREATE INDEX executions_open ON public.executions USING btree (priority, created_at) WHERE (status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting'::text]));
CREATE UNIQUE INDEX journal_one_end ON public.journal USING btree (execution_id, step, generation) WHERE (kind = ANY (ARRAY['step.completed'::text, 'step.failed'::text, 'step.skipped'::text, 'step.cancelled'::text, 'step.timed_out'::text]));
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.commands
    ADD CONSTRAINT commands_execution_id_fkey FOREIGN KEY (execution_id) REFERENCES public.executions(execution_id);
ALTER TABLE ONLY public.commands
    ADD CONSTRAINT commands_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.executions
    ADD CONSTRAINT executions_tenant_id_content_hash_fkey FOREIGN KEY (tenant_id, content_hash) REFERENCES public.specs(tenant_id, content_hash);
ALTER TABLE ONLY public.executions
    ADD CONSTRAINT executions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.specs
    ADD CONSTRAINT specs_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
ALTER TABLE ONLY public.steps
    ADD CONSTRAINT steps_execution_id_fkey FOREIGN KEY (execution_id) REFERENCES public.executions(execution_id);
ALTER TABLE ONLY public.steps
    ADD CONSTRAINT steps_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);
