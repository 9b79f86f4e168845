"""From a config to a trained model: prepare, train, evaluate, predict."""
