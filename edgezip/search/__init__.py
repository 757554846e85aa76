"""Questions about a model that are answered by trying: what each layer is worth, and (later) which recipe is best."""
