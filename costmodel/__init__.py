"""Cost models, which rank candidates. Imports numpy and xgboost; neither TVM nor the tuner."""
