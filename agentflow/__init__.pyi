from agentflow.errors import AgentFlowError as AgentFlowError
from agentflow.errors import SpecInvalid as SpecInvalid
from agentflow.errors import StepError as StepError
from agentflow.execution.journal import ExecutionRecord as ExecutionRecord
from agentflow.flow import Flow as Flow
from agentflow.flow import open_local as open_local
from agentflow.plan.compile import compile_plan as compile_plan
from agentflow.plan.plan import Plan as Plan
from agentflow.settings import Settings as Settings
from agentflow.settings import load as load
from agentflow.spec.check import Checked as Checked
from agentflow.spec.check import check as check
from agentflow.spec.check import parse as parse
from agentflow.spec.models import WorkflowSpec as WorkflowSpec
from agentflow.spec.problems import Problem as Problem
from agentflow.spec.schema import workflow_schema as workflow_schema

__version__: str
__all__: list[str]
