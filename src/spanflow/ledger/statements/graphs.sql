-- `new_graphs`: graph versions that are new or told differently; of several tellings the greatest text stays.
CREATE OR REPLACE TEMP TABLE new_graphs AS
SELECT
    graph_version,
    arg_max(told.name, told.text) AS name,
    arg_max(told.nodes, told.text) AS nodes,
    arg_max(told.edges, told.text) AS edges
FROM (
    SELECT *, told::VARCHAR AS text
    FROM (FROM incoming_graphs UNION FROM graph_versions SEMI JOIN incoming_graphs USING (graph_version)) told
) told
GROUP BY graph_version
EXCEPT
FROM graph_versions;

DELETE FROM graph_versions WHERE graph_version IN (SELECT graph_version FROM new_graphs);
INSERT INTO graph_versions FROM new_graphs;
