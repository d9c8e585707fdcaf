"""What spanflow costs, measured against the bare graph and the SDK's own floor."""
