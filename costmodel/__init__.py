"""Learns to rank candidates. Stands on numpy and xgboost; knows neither TVM nor the tuner."""
