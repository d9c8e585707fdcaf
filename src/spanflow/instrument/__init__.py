"""Knows the frameworks (LangGraph, LangChain) and nothing of storage."""
