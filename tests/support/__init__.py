"""What tests share: small models, servers, trees and calls of them. It imports no test."""
