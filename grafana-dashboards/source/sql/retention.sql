SELECT cohort, period, users, returned, rate FROM retention('day', /* chosen */) ORDER BY cohort, period
