"""Changes to trained models, and the view of a model's layers that they need."""
