-- Calls of models and tools, each once, as the conventions for generative AI and those that OpenInference and OpenLLMetry
-- share with them tell them. A turn or a step is no call, whoever wrote a call's numbers onto it.
SELECT
    TraceId AS trace_id,
    SpanId AS span_id,
    ParentSpanId AS parent_span_id,
    nullIf(SpanAttributes['spanflow.engagement.id'], '') AS engagement_id,
    SpanAttributes['spanflow.turn.id'] AS turn_id,
    SpanAttributes['spanflow.step.id'] AS step_id,
    -- Calls of one turn are told apart together, and others of one trace.
    if(turn_id = '', TraceId, turn_id) AS grp,
    toString(ScopeName) AS scope,
    kind = 'tool' AS is_tool,
    toUnixTimestamp64Nano(Timestamp) AS at_ns,
    ifNull(toInt64OrNull(SpanAttributes['spanflow.call.attempt']), 1) AS attempt,
    -- Numbers inside other values are not read.
    mapContains(SpanAttributes, 'langsmith.span.kind')
    OR mapContains(SpanAttributes, 'langfuse.observation.type')
    OR mapContains(SpanAttributes, 'metadata.usage_object') AS is_foreign,
    told_in([
        'gen_ai.response.model', 'llm.model_name', 'embedding.model_name', 'gen_ai.request.model',
        'traceloop.association.properties.ls_model_name'
    ]) AS model,
    told_in([
        'traceloop.association.properties.ls_provider', 'gen_ai.provider.name', 'gen_ai.system', 'llm.provider', 'llm.system'
    ]) AS provider,
    multiIf(
        kind = 'embeddings', 'embeddings',
        said IN ('text_completion', 'atext_completion'), 'text_completion',
        said IN ('generate_content', 'agenerate_content'), 'generate_content',
        'chat'
    ) AS operation,
    told_in(['gen_ai.agent.name', 'agent.name', 'spanflow.agent.name']) AS agent_name,
    attr('spanflow.call.caller') AS caller,
    nullIf(toString(ServiceName), '') AS service_name,
    tokens_of(first_of(['gen_ai.usage.input_tokens', 'gen_ai.usage.prompt_tokens', 'llm.token_count.prompt']))
        AS input_tokens,
    tokens_of(first_of(['gen_ai.usage.output_tokens', 'gen_ai.usage.completion_tokens', 'llm.token_count.completion']))
        AS output_tokens,
    tokens_of(
        first_of([
            'gen_ai.usage.cache_read.input_tokens', 'gen_ai.usage.cache_read_input_tokens',
            'llm.token_count.prompt_details.cache_read', 'llm.token_count.prompt_details.cache_input'
        ])
    ) AS cache_read_tokens,
    tokens_of(
        first_of([
            'gen_ai.usage.cache_write.input_tokens', 'gen_ai.usage.cache_creation.input_tokens',
            'gen_ai.usage.cache_creation_input_tokens', 'llm.token_count.prompt_details.cache_write'
        ])
    ) AS cache_write_tokens,
    tokens_of(
        first_of([
            'gen_ai.usage.reasoning.output_tokens', 'gen_ai.usage.reasoning_tokens', 'llm.usage.reasoning_tokens',
            'llm.token_count.completion_details.reasoning'
        ])
    ) AS reasoning_tokens,
    coalesce(
        tokens_of(
            first_of([
                'spanflow.usage.total_tokens', 'gen_ai.usage.total_tokens', 'llm.token_count.total', 'llm.usage.total_tokens'
            ])
        ),
        input_tokens + output_tokens,
        -- Embeddings have no output, so the input is the whole.
        if(kind = 'embeddings' AND isNull(output_tokens), input_tokens, NULL)
    ) AS total_tokens,
    toFloat64OrNull(first_of(['spanflow.usage.cost_usd', 'gen_ai.cost.total_cost', 'llm.cost.total'])) AS told_usd,
    if(ifNull(told_usd BETWEEN 0 AND 1e9, false), told_usd, NULL) AS cost_usd,
    isNotNull(
        coalesce(input_tokens, output_tokens, total_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens)
    ) AS is_known
FROM (
    SELECT
        *,
        -- The first of these that is there says what a span is, also that it is no call.
        lower(
            ifNull(
                first_of([
                    'langsmith.span.kind', 'langfuse.observation.type', 'openinference.span.kind', 'gen_ai.operation.name',
                    'traceloop.span.kind', 'llm.request.type'
                ]),
                ''
            )
        ) AS said,
        transform(
            said,
            [
                'llm', 'generation', 'chat', 'text_completion', 'generate_content', 'acompletion', 'completion',
                'atext_completion', 'agenerate_content', 'anthropic_messages', 'responses', 'aresponses',
                'embedding', 'embeddings', 'aembedding', 'tool', 'execute_tool'
            ],
            [
                'llm', 'llm', 'llm', 'llm', 'llm', 'llm', 'llm', 'llm', 'llm', 'llm', 'llm', 'llm',
                'embeddings', 'embeddings', 'embeddings', 'tool', 'tool'
            ],
            ''
        ) AS kind
    FROM {database:Identifier}.{table:Identifier}
    WHERE kind != ''
        AND NOT mapContains(SpanAttributes, 'spanflow.turn.kind')
        AND NOT mapContains(SpanAttributes, 'spanflow.step.name')
)
LIMIT 1 BY TraceId, SpanId
