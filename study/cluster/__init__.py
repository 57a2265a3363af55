"""The cluster that packs run on: joined or started, its nodes looked at."""
