SELECT step, reached FROM funnel([${steps:sqlstring}], /* chosen */) ORDER BY position
