-- The steps that some names may mean.
SELECT DISTINCT ifNull(coalesce(attr('spanflow.step.path'), attr('spanflow.step.name')), '') AS path
FROM spans
WHERE is_step AND arrayExists(s -> path = s OR endsWith(path, concat('/', s)), {steps:Array(String)})
ORDER BY path
