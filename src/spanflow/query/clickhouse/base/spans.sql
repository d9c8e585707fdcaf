-- The spans of engagements, with what tells turns and steps from others.
SELECT
    *,
    SpanAttributes['spanflow.engagement.id'] AS engagement_id,
    SpanAttributes['spanflow.turn.id'] AS turn_id,
    mapContains(SpanAttributes, 'spanflow.turn.kind') AS is_turn,
    NOT is_turn AND mapContains(SpanAttributes, 'spanflow.step.name') AS is_step,
    SpanAttributes['spanflow.step.status'] AS step_status,
    toUnixTimestamp64Nano(Timestamp) AS at_ns,
    at_ns + toInt64(Duration) AS over_ns
FROM {database:Identifier}.{table:Identifier}
WHERE engagement_id != ''
