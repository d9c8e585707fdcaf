-- The engagements that a question is about.
SELECT *
FROM engagements
WHERE (isNull({since_us:Nullable(Int64)}) OR intDiv(started_ns, 1000) >= {since_us:Nullable(Int64)})
    AND (isNull({until_us:Nullable(Int64)}) OR intDiv(started_ns, 1000) < {until_us:Nullable(Int64)})
    AND (isNull({name:Nullable(String)}) OR ifNull(name = {name:Nullable(String)}, false))
    AND (isNull({user_id:Nullable(String)}) OR ifNull(user_id = {user_id:Nullable(String)}, false))
    -- A key must be there with the same type and value: 1, "1" and true are three values.
    AND has_metadata(
        metadata, {metadata_keys:Array(String)}, {metadata_kinds:Array(String)}, {metadata_values:Array(String)}
    )
    -- What a side of a comparison asks for besides.
    AND arrayAll(
        (c, v) -> if(
            c = 'graph_version',
            has(arrayMap(t -> ifNull(t.graph_version, ''), begun), ifNull(v, ' ')),
            c != '' AND ifNull(column_of(c) = v, isNull(column_of(c)) AND isNull(v))
        ),
        {columns:Array(String)},
        {column_values:Array(Nullable(String))}
    )
