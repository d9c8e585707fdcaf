SELECT step, advanced, waiting, active, failed, interrupted, dropped
FROM funnel([${steps:sqlstring}], /* chosen */)
ORDER BY position
