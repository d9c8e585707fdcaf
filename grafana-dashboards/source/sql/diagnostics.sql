SELECT name, count FROM diagnostics ORDER BY name
