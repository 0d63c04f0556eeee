"""From a study's records to what they say about claims: effects per replicate, gates and findings. No torch."""
